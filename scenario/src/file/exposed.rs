//! What others than the target get to see of a plan's templates must not come from a secret: host names, which name servers
//! hear, and names of rooms, which stand in reports.
//!
//! Whether a template uses a secret is decided by the word, wherever it stands after the first tag: what the template
//! engine says of the names in a template leaves out some (`{% set secrets = secrets %}`), and a plan may mean to hide it.

use super::node::Node;
use super::reader::Reader;
use super::template::{Names, SECRETS};
use crate::flow::Text;

impl Names {
    /// The name of a room.
    pub(super) fn room(&self, reader: &mut Reader, node: &Node) -> Option<Text> {
        let text = self.text(reader, node)?;
        if self.has_secrets() && mentions_secrets(&text) {
            let hint = "store and reports keep the names of rooms; name it by something else, such as `{{ user }}`";
            reader.problem_with_hint(node.place, "the name of a room can't be made of `secrets`", hint);
            return None;
        }
        Some(text)
    }

    /// A URL, whose host must be known without secrets.
    pub(super) fn exposes_no_host(&self, reader: &mut Reader, url: &Text, node: &Node) -> bool {
        let exposes = self.has_secrets() && mentions_secrets(url) && !has_literal_host(url.source());
        if exposes {
            let hint = "name servers hear every host name; write the host as text, or send the secret in `query`, `headers`, \
                        `auth` or the body";
            reader.problem_with_hint(node.place, "a URL whose host a template makes can't use `secrets`", hint);
        }
        !exposes
    }
}

fn mentions_secrets(text: &Text) -> bool {
    let Text::Template(source) = text else { return false };
    let tags = source.find('{').map_or("", |first| &source[first..]);
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    tags.match_indices(SECRETS).any(|(at, found)| {
        let (before, after) = (tags[..at].chars().next_back(), tags[at + found.len()..].chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Does the text before the first tag say which host it is? A path is of the target's, which agents see to where the tag
/// is all that follows the slash.
fn has_literal_host(source: &str) -> bool {
    let literal = source.split('{').next().unwrap_or_default();
    match literal.split_once("://") {
        Some((_, after)) => after.contains(['/', '?', '#', '\\']),
        None => literal.starts_with('/') && !literal[1..].starts_with(['/', '\\']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_literal_where_no_template_can_change_it() {
        for (source, is_literal) in [
            ("https://a.example.com/{{ secrets.k }}", true),
            ("https://a.example.com?x={{ secrets.k }}", true),
            ("/{{ secrets.k }}", true),
            ("/a/{{ secrets.k }}", true),
            ("https://a.example.com{{ secrets.k }}", false),
            ("https://{{ user }}.example.com/{{ secrets.k }}", false),
            ("https://user:{{ secrets.k }}@a.example.com/", false),
            ("{{ secrets.k }}", false),
            ("//{{ secrets.k }}", false),
            ("/\\{{ secrets.k }}", false),
        ] {
            assert_eq!(has_literal_host(source), is_literal, "{source}");
        }
    }

    #[test]
    fn secrets_are_found_however_they_are_put() {
        for (source, uses) in [
            ("{{ secrets.k }}", true),
            ("{{ secrets['k'] }}", true),
            ("{% set secrets = secrets %}{{ secrets.k }}", true),
            ("{% with a = secrets %}{{ a.k }}{% endwith %}", true),
            ("{% filter default(secrets.k) %}{% endfilter %}", true),
            ("{{ '}}' ~ secrets.k }}", true),
            ("secrets-{{ user }}", false),
            ("{{ my_secrets }}{{ secretsx }}", false),
        ] {
            assert_eq!(mentions_secrets(&Text::Template(source.into())), uses, "{source}");
        }
    }
}
