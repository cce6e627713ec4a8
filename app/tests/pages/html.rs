//! Just enough of an HTML reader to ask questions of a page: its tags, in order.

/// One start tag.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    /// The element's name in lower case.
    pub name: String,
    /// Attributes, their values unescaped.
    pub attributes: Vec<(String, String)>,
}

impl Tag {
    /// An attribute's value; empty for one without a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#x27;", "'")
        .replace("&amp;", "&")
}

/// Every start tag of a document, as a browser would find them: what is inside comments, scripts
/// and text areas is no tag.
pub fn tags(html: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let body = &rest[1..];
        if !body.starts_with(|c: char| c.is_ascii_alphabetic()) {
            rest = body;
            continue;
        }
        let (tag, after) = read_tag(body);
        rest = after;
        if ["script", "style", "textarea", "title"].contains(&tag.name.as_str()) {
            let end = format!("</{}", tag.name);
            let lower = rest.to_ascii_lowercase();
            rest = lower.find(&end).map_or("", |at| &rest[at..]);
        }
        found.push(tag);
    }
    found
}

fn read_tag(text: &str) -> (Tag, &str) {
    let name_end = text
        .find(|c: char| c.is_whitespace() || c == '>' || c == '/')
        .unwrap_or(text.len());
    let mut tag = Tag {
        name: text[..name_end].to_ascii_lowercase(),
        ..Tag::default()
    };
    let mut rest = &text[name_end..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
        if rest.is_empty() {
            return (tag, rest);
        }
        if let Some(after) = rest.strip_prefix('>') {
            return (tag, after);
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || "=>/".contains(c))
            .unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            if let Some(quoted) = after.strip_prefix('"') {
                let (inside, after) = quoted.split_once('"').unwrap_or((quoted, ""));
                value = unescape(inside);
                rest = after;
            } else {
                let end = after
                    .find(|c: char| c.is_whitespace() || c == '>')
                    .unwrap_or(after.len());
                value = unescape(&after[..end]);
                rest = &after[end..];
            }
        }
        tag.attributes.push((name, value));
    }
}

#[test]
fn the_reader_finds_what_a_browser_finds() {
    let html = r#"<!DOCTYPE html><p class="a b" hidden>1 < 2<!-- <b> --></p>
        <textarea name=t><script>x</script></textarea><img alt="&quot;x&quot; > y"/>"#;
    let found = tags(html);
    let names: Vec<&str> = found.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["p", "textarea", "img"]);
    assert_eq!(found[0].get("class"), Some("a b"));
    assert_eq!(found[0].get("hidden"), Some(""));
    assert_eq!(found[1].get("name"), Some("t"));
    assert_eq!(found[2].get("alt"), Some("\"x\" > y"));
}
