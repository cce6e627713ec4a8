//! The parts that pages are made of.

mod ago;
mod badge;
mod bars;
mod copy_text;
mod field;
mod moment;
mod nav;
mod notice;
mod overlay;
mod palette;
mod picture;
mod plot;
mod progress;
mod words;

pub use ago::Ago;
pub use badge::{Badge, DeviceStatus, Tone};
pub use bars::DayBars;
pub use copy_text::{CopyButton, CopyText};
pub use field::{Answer, Field, TextField, field_error, form_error};
pub use moment::{Moment, date_text};
pub use nav::Nav;
pub use notice::{ErrorNotice, Notice, Toasts};
pub use overlay::{FocusFollows, OverlayHost, provide_overlays};
pub use picture::{Picture, ratio_class, ratio_index, ratio_of};
pub use plot::{Plot, TimingBar};
pub use progress::Progress;
pub use words::{bytes_text, number_text, percent_encode, safe_path, seconds_text};
