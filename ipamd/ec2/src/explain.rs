//! EC2's failures in words for people: what EC2 said, to whom, and what to do. Messages are shown, never decided on.

use crate::classify::Meaning;

/// Longest part of a message of EC2's that is shown. *Source*: our choice; what is longer is an encoded authorization
/// failure, which only its owner can decode.
const SHOWN: usize = 240;

/// What happened and what to do about it, for an error that EC2 answered.
#[must_use]
pub fn explain(code: &str, message: &str, meaning: Meaning) -> String {
    let said = readable(message);
    if let Some(refusal) = Refusal::read(message) {
        return format!(
            "{} lacks {}; add it to the node's policy (AmazonEKS_CNI_Policy has it); EC2 says {code}: {said}",
            refusal.who, refusal.what
        );
    }
    let signed = if meaning.signature { "the credentials or their date are not accepted: " } else { "" };
    match said.as_str() {
        "" => format!("{signed}EC2 says {code}; {}", meaning.fix),
        said => format!("{signed}EC2 says {code}: {said}; {}", meaning.fix),
    }
}

/// Who may not do what, as EC2 writes it since 2021.
#[derive(Debug, PartialEq, Eq)]
struct Refusal<'a> {
    who: String,
    what: &'a str,
}

impl<'a> Refusal<'a> {
    /// *Source*: IAM user guide, "Troubleshoot access denied error messages", checked 2026-11-27: `User: <ARN> is not
    /// authorized to perform: <action> on resource: <ARN> because …`.
    fn read(message: &'a str) -> Option<Self> {
        let (_, after) = message.split_once("User: ")?;
        let (arn, after) = after.split_once(" is not authorized to perform: ")?;
        let what = after.split_whitespace().next()?;
        let printable = |text: &str| text.len() <= SHOWN && text.chars().all(|c| c.is_ascii_graphic());
        (printable(arn) && printable(what)).then(|| Self { who: named(arn), what })
    }
}

/// The role, where the ARN is that of a session of one: `arn:aws:sts::1234:assumed-role/<role>/<session>`.
fn named(arn: &str) -> String {
    let role = arn.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next());
    role.map_or_else(|| arn.to_owned(), |role| format!("role {role} ({arn})"))
}

/// A message on one line, without what is encoded in it, and not too long.
pub(crate) fn readable(message: &str) -> String {
    let plain = message.split("Encoded authorization failure message").next().unwrap_or_default();
    let line: Vec<&str> =
        plain.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = line.join(" ");
    let line = line.trim_end_matches(['.', ' ']);
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::meaning_of;

    fn explained(code: &str, message: &str) -> String {
        explain(code, message, meaning_of(code, Some(400)))
    }

    #[test]
    fn refusal_names_the_role_and_the_action_that_is_missing() {
        let message = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/\
                       nodes/i-0123 is not authorized to perform: ec2:CreateTags on resource: \
                       arn:aws:ec2:eu-west-1:123456789012:network-interface/* because no identity-based policy allows \
                       the ec2:CreateTags action. Encoded authorization failure message: Zm9vYmFy";
        let text = explained("UnauthorizedOperation", message);
        assert!(
            text.starts_with(
                "role nodes (arn:aws:sts::123456789012:assumed-role/nodes/i-0123) lacks ec2:CreateTags; add it to the \
                 node's policy"
            ),
            "{text}"
        );
        assert!(!text.contains("Zm9vYmFy"), "{text}");
    }

    #[test]
    fn refusal_without_names_still_says_what_to_do() {
        let text = explained("UnauthorizedOperation", "You are not authorized to perform this operation.");
        assert!(text.contains("policy of the node's role"), "{text}");
        assert!(text.contains("UnauthorizedOperation"), "{text}");
    }

    #[test]
    fn every_failure_ends_in_what_to_do() {
        let text = explained("NetworkInterfaceLimitExceeded", "You have reached the limit.\n");
        assert_eq!(
            text,
            "EC2 says NetworkInterfaceLimitExceeded: You have reached the limit; have the quota \"Network interfaces \
             per Region\" (L-DF5E4CA3) raised, or delete unused ones"
        );
        assert!(explained("RequestExpired", "Request has expired.").contains("clock"));
        assert!(explained("NoSuchThing", "").contains("EC2 API reference"));
    }

    /// A message is somebody else's text: it must not break a log line or fill it.
    #[test]
    fn foreign_text_stays_on_one_short_line() {
        let text = explained("InvalidParameterValue", &format!("a\r\nb\u{1b}[31m {}", "x".repeat(5_000)));
        assert!(!text.contains(['\n', '\r', '\u{1b}']), "{text}");
        assert!(text.len() < 600, "{}", text.len());
        let forged = "User: a\nb is not authorized to perform: ec2:X";
        assert!(!explained("UnauthorizedOperation", forged).contains("lacks"));
    }
}
