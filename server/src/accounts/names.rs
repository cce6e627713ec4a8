//! Names of people and labels of tokens: parsed once, at the edge.

use atelier_app::error::AppError;
use unicode_normalization::UnicodeNormalization;

/// A name in the spelling it is stored and looked up in.
pub fn canonical_name(name: &str) -> String {
    // Long input is cut before it is normalised; what is cut off is too long anyway.
    name.trim().chars().take(256).nfc().collect()
}

/// A name that somebody wants.
pub fn parse_name(name: &str) -> Result<String, AppError> {
    let name = canonical_name(name);
    if name.is_empty() {
        return Err(AppError::invalid("name", "Give a name."));
    }
    if name.chars().count() > 64 {
        return Err(AppError::invalid(
            "name",
            "The name is too long; use at most 64 characters.",
        ));
    }
    // The audit log knows whoever acts there by these words.
    let words: Vec<String> = name.split_whitespace().map(str::to_lowercase).collect();
    if words == ["command", "line"] {
        return Err(AppError::invalid(
            "name",
            "This name stands for the server's own command line; choose another.",
        ));
    }
    if name.chars().any(is_unprintable) {
        return Err(AppError::invalid(
            "name",
            "The name has characters that cannot be seen; use letters, digits, spaces and signs.",
        ));
    }
    Ok(name)
}

/// A label that somebody gives a token.
pub fn parse_label(label: &str) -> Result<String, AppError> {
    let label: String = label.trim().chars().take(256).nfc().collect();
    if label.is_empty() {
        return Err(AppError::invalid(
            "name",
            "Give the token a name, to know it by later.",
        ));
    }
    if label.chars().count() > 64 || label.chars().any(is_unprintable) {
        return Err(AppError::invalid(
            "name",
            "Use at most 64 characters that can be seen.",
        ));
    }
    Ok(label)
}

/// Control characters, and those that are invisible or turn the reading direction: two names that
/// look alike must be alike.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_are_alike() {
        assert_eq!(parse_name("  Ada Lovelace ").unwrap(), "Ada Lovelace");
        // One letter, or a letter and an accent: the same name.
        assert_eq!(
            parse_name("Zo\u{eb}").unwrap(),
            parse_name("Zoe\u{308}").unwrap()
        );
        assert_eq!(parse_name(&"ж".repeat(64)).unwrap().chars().count(), 64);
        let too_long = "ж".repeat(65);
        for refused in [
            "",
            "   ",
            "a\nb",
            "a\u{0}b",
            "al\u{200b}ice",
            "al\u{202e}ice",
            &too_long,
        ] {
            assert!(parse_name(refused).is_err(), "{refused:?}");
        }
    }
}
