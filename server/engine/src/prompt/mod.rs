//! How the text of a prompt is read before any encoder sees it: weights, `BREAK`, chunks.
//!
//! The syntax is the one that AUTOMATIC1111's web UI made common (its `modules/prompt_parser.py`
//! and `modules/sd_hijack_clip.py` are the reference):
//!
//! | written | read as |
//! |---|---|
//! | `(word)` | `word`, 1.1 times as strong; `((word))` 1.21 times |
//! | `(word:1.3)` | 1.3 times as strong; −10 to 10 |
//! | `[word]` | 1.1 times weaker |
//! | `\(` `\)` `\[` `\]` `\\` | the character itself |
//! | `BREAK` | what follows starts a new chunk |
//!
//! It differs from the web UI where that is surprising: a bracket that is never closed, and a lone
//! backslash, are text (there, the bracket weighs everything after it and the backslash is
//! dropped), and `BREAK` inside brackets still breaks (there it becomes the word "break"). The web
//! UI's `[from:to:when]`, `[a|b]` and `AND` are not read: their characters are text.

mod chunks;
mod lora_tags;
mod parser;
mod preview;

pub use chunks::{Chunk, MAX_CHUNKS, chunks};
pub use lora_tags::lora_tags;
pub use parser::{MAX_WEIGHT, Parsed, Part, parse};
pub use preview::{PreviewToken, PromptPreview, PromptReader};

use crate::PromptSyntax;

/// Whether prompts that are used together are read with weights: [`PromptSyntax::Auto`] is decided
/// by what any of them holds.
pub fn is_weighted(syntax: PromptSyntax, texts: &[&str]) -> bool {
    match syntax {
        PromptSyntax::Plain => false,
        PromptSyntax::Weighted => true,
        // What cannot be parsed was meant as syntax: reading it says what is wrong with it.
        PromptSyntax::Auto => texts
            .iter()
            .any(|text| parse("prompt", text).map_or(true, |parsed| parsed.uses_syntax)),
    }
}
