//! Strings of plans and targets in XML and HTML, where they must stay text.

/// Text as content or attribute of XML and of HTML: nothing in it is markup, and characters that XML 1.0 does not have
/// (section 2.2), or that reorder what stands around them, are replaced by U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // In an attribute they would become blanks anyway.
            '\n' | '\r' | '\t' => escaped.push(' '),
            other if is_text(other) => escaped.push(other),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

fn is_text(c: char) -> bool {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !reorders && !matches!(c, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn nothing_is_markup_and_every_character_is_legal() {
        let hostile = "<a b=\"c\" d='e'>&\u{0}\u{1b}[2J\u{85}\u{202e}\u{ffff}\r\n";
        let inert = "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\u{fffd}\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}  ";
        assert_eq!(escaped(hostile), inert);
    }
}
