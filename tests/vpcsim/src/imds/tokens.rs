//! Session tokens of IMDSv2: who holds which, until when. Pure; the time is handed in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest life of a token. Source: EC2 User Guide, "Use IMDSv2": 1 to 21,600 seconds.
const LONGEST_S: u64 = 21_600;

/// Tokens by their text. A token is good for the instance that asked for it and no other.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: BTreeMap<String, Token>,
    count: u64,
}

#[derive(Debug)]
struct Token {
    instance: String,
    expires: Instant,
}

impl Tokens {
    /// The life that the header asks for; `None` is 400 Bad Request.
    pub(super) fn life(header: &str) -> Option<Duration> {
        let seconds: u64 = header.trim().parse().ok()?;
        (1..=LONGEST_S).contains(&seconds).then(|| Duration::from_secs(seconds))
    }

    /// A new token. Expired ones are forgotten, so the table stays as small as what is in use.
    pub(super) fn issue(&mut self, instance: &str, life: Duration, now: Instant) -> String {
        self.issued.retain(|_, token| token.expires > now);
        self.count += 1;
        // Not a secret: what it protects is simulated. Real ones are 56 characters that end in `==`.
        let text = format!("AQAEAvpcsim{:0>20}{:0>23}==", instance.trim_start_matches("i-"), self.count);
        self.issued.insert(text.clone(), Token { instance: instance.to_owned(), expires: now + life });
        text
    }

    /// Whether this is a live token of that instance.
    pub(super) fn admits(&self, text: &str, instance: &str, now: Instant) -> bool {
        self.issued.get(text).is_some_and(|token| token.instance == instance && token.expires > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_out_of_range_is_refused() {
        for (header, life) in
            [("1", Some(1)), ("21600", Some(21_600)), ("0", None), ("21601", None), ("-1", None), ("x", None)]
        {
            assert_eq!(Tokens::life(header), life.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn a_token_is_good_for_its_own_instance_until_it_expires() {
        let start = Instant::now();
        let mut tokens = Tokens::default();
        let token = tokens.issue("i-1", Duration::from_secs(60), start);
        assert!(tokens.admits(&token, "i-1", start));
        assert!(!tokens.admits(&token, "i-2", start));
        assert!(!tokens.admits(&token, "i-1", start + Duration::from_secs(60)));
        assert_ne!(token, tokens.issue("i-1", Duration::from_secs(60), start));
    }
}
