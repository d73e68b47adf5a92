//! Patterns as EC2's filters and IAM's actions have them: `*` any run, `?` one character, `\` takes the next literally.

/// Whether the whole text fits the pattern.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // After a `*`: where it stands and how much of the text it has eaten so far, to try one more on a mismatch.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('\\') if pattern.get(p + 1) == Some(&text[t]) => Some(2),
            Some(letter) if *letter == text[t] => Some(1),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((at, eaten))) => {
                star = Some((at, eaten + 1));
                p = at + 1;
                t = eaten + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_what_they_mean() {
        for (pattern, text, fits) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("*", "", true),
            ("Describe*", "DescribeTags", true),
            ("Describe*", "CreateTags", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            (r"a\*c", "a*c", true),
            (r"a\*c", "abc", false),
            ("", "", true),
            ("", "a", false),
            ("aws-K8S-i-*", "aws-K8S-i-0abc", true),
        ] {
            assert_eq!(wildcard(pattern, text), fits, "{pattern} ~ {text}");
        }
    }
}
