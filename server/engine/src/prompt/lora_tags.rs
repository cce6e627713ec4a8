//! `<lora:name:weight>`, as people write it in prompts.

/// Takes the LoRA tags out of a prompt: the text without them, and each tag's name and weight in
/// order. A tag without a weight counts 1; further numbers, which some programs give for the text
/// encoder or for single blocks, are passed over. What does not read as a tag stays text.
///
/// The engine does not apply them: whoever takes prompts with tags finds the files and fills
/// [`crate::GenerateRequest::loras`].
pub fn lora_tags(text: &str) -> (String, Vec<(String, f64)>) {
    const OPEN: &str = "<lora:";
    let mut rest = text;
    let mut words = String::with_capacity(text.len());
    let mut tags = Vec::new();
    while let Some(start) = rest.find(OPEN) {
        let (before, tag) = rest.split_at(start);
        let inside = &tag[OPEN.len()..];
        let read = inside
            .find(['<', '>'])
            .filter(|&end| inside[end..].starts_with('>'))
            .and_then(|end| Some((read_tag(&inside[..end])?, OPEN.len() + end + 1)));
        words.push_str(before);
        match read {
            Some((found, length)) => {
                tags.push(found);
                rest = &tag[length..];
            }
            None => {
                words.push_str(OPEN);
                rest = inside;
            }
        }
    }
    words.push_str(rest);
    (words, tags)
}

/// `name` or `name:weight` or `name:weight:…`.
fn read_tag(inside: &str) -> Option<(String, f64)> {
    let mut fields = inside.split(':').map(str::trim);
    let name = fields.next().filter(|name| !name.is_empty())?;
    let weight = match fields.next() {
        None => 1.0,
        Some(number) => number
            .parse()
            .ok()
            .filter(|weight: &f64| weight.is_finite())?,
    };
    Some((name.to_string(), weight))
}

#[cfg(test)]
mod tests {
    use super::lora_tags;

    #[test]
    fn tags_are_taken_out() {
        for (prompt, words, tags) in [
            ("a cat", "a cat", vec![]),
            ("a <lora:ink:0.8> cat", "a  cat", vec![("ink", 0.8)]),
            ("<lora:a><lora:b c:-1>", "", vec![("a", 1.0), ("b c", -1.0)]),
            ("<lora:x: 1 :0.5>y", "y", vec![("x", 1.0)]),
            ("<lora:<lora:x:2>", "<lora:", vec![("x", 2.0)]),
            ("<lora:x:nan>", "<lora:x:nan>", vec![]),
            ("<lora::1> <lora:x", "<lora::1> <lora:x", vec![]),
            ("猫<lora:é:1>", "猫", vec![("é", 1.0)]),
        ] {
            let (got, found) = lora_tags(prompt);
            assert_eq!(got, words, "{prompt}");
            let found: Vec<_> = found.iter().map(|(n, w)| (n.as_str(), *w)).collect();
            assert_eq!(found, tags, "{prompt}");
        }
    }
}
