//! What a pod's author wrote, made fit to be shown: bounded, and with nothing that a terminal would obey.

/// Longest value kept, in bytes. Kubernetes' names have at most 253.
pub const MAX_VALUE: usize = 256;
/// Longest name of an attribute kept, in bytes.
pub const MAX_NAME: usize = 128;

/// A value: control characters and those that turn the direction of writing become U+FFFD, and what is longer than
/// [`MAX_VALUE`] is cut at a character and ends in an ellipsis.
pub fn value(text: &str) -> String {
    let clean = |character: char| if is_hostile(character) { char::REPLACEMENT_CHARACTER } else { character };
    let shown: String = text.chars().take(MAX_VALUE + 1).map(clean).collect();
    if shown.len() <= MAX_VALUE {
        return shown;
    }
    let end = shown.floor_char_boundary(MAX_VALUE - '…'.len_utf8());
    format!("{}…", &shown[..end])
}

/// Whether a text can be an attribute's name: printable, without spaces or quotes, not too long.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/'))
}

/// Control characters, and the marks that reorder text (Unicode Standard Annex 9).
fn is_hostile(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_scripts_stay_and_escapes_go() {
        assert_eq!(value("платежи-支付"), "платежи-支付");
        assert_eq!(value("a\x1b[31mred\nb\u{202e}c"), "a\u{fffd}[31mred\u{fffd}b\u{fffd}c");
        assert_eq!(value("say \"hi\""), "say \"hi\"");
    }

    #[test]
    fn names_are_plain() {
        assert!(is_name("service.version") && is_name("team/cost-centre_2"));
        assert!(!is_name("") && !is_name("a b") && !is_name("é") && !is_name("a\"") && !is_name(&"a".repeat(129)));
    }

    proptest! {
        #[test]
        fn a_value_is_bounded_and_safe_to_print(text in any::<String>(), times in 1_usize..40) {
            let shown = value(&text.repeat(times));
            prop_assert!(shown.len() <= MAX_VALUE);
            prop_assert!(!shown.chars().any(is_hostile));
        }
    }
}
