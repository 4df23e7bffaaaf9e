//! From a key's path to the line it stands on.

use toml_edit::{Document, Item};

/// The line (from 1) of the deepest part of `path` that the text has.
pub(super) fn line_of(document: &Document<String>, path: &str) -> Option<usize> {
    let mut item: &Item = document.as_item();
    let mut span = None;
    let mut rest = path;
    while !rest.is_empty() {
        let Some(table) = item.as_table_like() else { break };
        // A name may hold dots itself, so the longest key that fits is taken.
        let found = ends(rest).find_map(|end| {
            table.get_key_value(rest.get(..end)?).map(|(key, next)| (key.span().or(next.span()), next, end))
        });
        let Some((key_span, next, end)) = found else { break };
        span = key_span.or(span);
        item = next;
        rest = rest.get(end..).unwrap_or_default().trim_start_matches('.');
    }
    span.map(|span| line_at(document.raw(), span.start))
}

/// The line (from 1) of a byte.
pub(super) fn line_at(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Where a leading key could end, the longest first. An index such as `[2]` is cut off.
fn ends(path: &str) -> impl Iterator<Item = usize> {
    let dots = path.match_indices(['.', '[']).map(|(at, _)| at).collect::<Vec<_>>();
    std::iter::once(path.len()).chain(dots.into_iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "a = 1\n[users.\"a.b\"]\nup = 2\n\n[layers.acl]\nallow = [\"x\"]\n";
        let document = Document::parse(text.to_owned()).unwrap();
        for (path, line) in [
            ("a", Some(1)),
            ("users.a.b.up", Some(3)),
            ("users.a.b.down", Some(2)),
            ("layers.acl.allow[0]", Some(6)),
            ("layers.acl.deny", Some(5)),
            ("nothing", None),
        ] {
            assert_eq!(line_of(&document, path), line, "{path}");
        }
    }
}
