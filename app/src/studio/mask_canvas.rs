//! The sheet itself: strokes on a canvas of the image's own size, kept as a list of acts so that
//! each can be undone without a copy of all pixels.

use super::Brush;
use crate::studio::sending::send;
use leptos::html;
use leptos::prelude::*;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{Clamped, JsCast, JsValue};
use web_sys::{
    Blob, CanvasRenderingContext2d, HtmlCanvasElement, HtmlElement, HtmlImageElement, ImageData,
    PointerEvent,
};

/// The paint: told from most pictures, half transparent by its style.
const PAINT: &str = "#ff2f7d";
/// Largest zoom.
const MOST_ZOOM: f64 = 12.0;

/// What the sheet is made of.
pub(in super::super) struct Parts {
    pub dialog: NodeRef<html::Dialog>,
    pub view: NodeRef<html::Div>,
    pub sheet: NodeRef<html::Div>,
    pub picture: NodeRef<html::Img>,
    pub paint: NodeRef<html::Canvas>,
    pub ring: NodeRef<html::Div>,
    pub brush: RwSignal<Brush>,
    pub zoom: RwSignal<f64>,
    pub depth: RwSignal<(usize, usize)>,
}

/// One thing that was done to the mask.
#[derive(Clone)]
enum Act {
    Stroke {
        erases: bool,
        width: f64,
        points: Vec<(f64, f64)>,
    },
    Invert,
    Clear,
}

/// The painting.
#[derive(Default)]
struct Painting {
    /// The mask as it was when the sheet was opened, as paint.
    base: Option<HtmlCanvasElement>,
    acts: Vec<Act>,
    undone: Vec<Act>,
    stroke: Option<Act>,
    /// Fingers, pens and mice on the sheet: id and place in the window.
    pointers: Vec<(i32, f64, f64)>,
}

/// The sheet's handles. Cheap to copy.
#[derive(Clone, Copy)]
pub(in super::super) struct Desk {
    parts: StoredValue<Parts, LocalStorage>,
    painting: StoredValue<Painting, LocalStorage>,
    mask: StoredValue<String>,
}

/// A desk over its parts.
pub(in super::super) fn desk(parts: Parts) -> Desk {
    Desk {
        parts: StoredValue::new_local(parts),
        painting: StoredValue::new_local(Painting::default()),
        mask: StoredValue::new(String::new()),
    }
}

/// Whether a key was pressed on a button, which answers to it itself.
pub(in super::super) fn is_button(event: &leptos::ev::KeyboardEvent) -> bool {
    event
        .target()
        .and_then(|target| target.dyn_into::<HtmlElement>().ok())
        .is_some_and(|target| target.tag_name() == "BUTTON")
}

fn context_of(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok()??.dyn_into().ok()
}

fn new_canvas(width: u32, height: u32) -> Option<(HtmlCanvasElement, CanvasRenderingContext2d)> {
    let canvas: HtmlCanvasElement = document().create_element("canvas").ok()?.dyn_into().ok()?;
    canvas.set_width(width);
    canvas.set_height(height);
    let context = context_of(&canvas)?;
    Some((canvas, context))
}

/// The white of a mask as paint.
fn as_paint(mask: &HtmlImageElement, width: u32, height: u32) -> Option<HtmlCanvasElement> {
    let (canvas, context) = new_canvas(width, height)?;
    let (across, down) = (f64::from(width), f64::from(height));
    context
        .draw_image_with_html_image_element_and_dw_and_dh(mask, 0.0, 0.0, across, down)
        .ok()?;
    let data = context.get_image_data(0.0, 0.0, across, down).ok()?;
    let mut pixels = data.data().0;
    for pixel in pixels.chunks_exact_mut(4) {
        let light = (u32::from(pixel[0]) + u32::from(pixel[1]) + u32::from(pixel[2])) / 3;
        pixel[3] = (light * u32::from(pixel[3]) / 255) as u8;
        pixel[..3].copy_from_slice(&[0xff, 0x2f, 0x7d]);
    }
    let data = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&pixels), width, height).ok()?;
    context.put_image_data(&data, 0.0, 0.0).ok()?;
    Some(canvas)
}

fn draw(context: &CanvasRenderingContext2d, act: &Act, width: f64, height: f64) {
    let compose = |how: &str| {
        // Fails only for a name that is not one.
        let _ = context.set_global_composite_operation(how);
    };
    context.set_fill_style_str(PAINT);
    context.set_stroke_style_str(PAINT);
    match act {
        Act::Clear => context.clear_rect(0.0, 0.0, width, height),
        Act::Invert => {
            compose("source-out");
            context.fill_rect(0.0, 0.0, width, height);
        }
        Act::Stroke {
            erases,
            width,
            points,
        } => {
            compose(if *erases {
                "destination-out"
            } else {
                "source-over"
            });
            context.set_line_width(*width);
            context.set_line_cap("round");
            context.set_line_join("round");
            context.begin_path();
            if let Some((x, y)) = points.first() {
                context.move_to(*x, *y);
                // A dot is a line to where it began.
                context.line_to(*x, *y);
            }
            for (x, y) in points.iter().skip(1) {
                context.line_to(*x, *y);
            }
            context.stroke();
        }
    }
    compose("source-over");
}

impl Desk {
    fn part<T>(&self, take: impl FnOnce(&Parts) -> Option<T>) -> Option<T> {
        self.parts.try_with_value(take).flatten()
    }

    fn canvas(&self) -> Option<(HtmlCanvasElement, CanvasRenderingContext2d)> {
        let canvas = self.part(|parts| parts.paint.get_untracked())?;
        let context = context_of(&canvas)?;
        Some((canvas, context))
    }

    /// Shows the sheet; the picture's arrival begins the painting.
    pub fn open(&self, mask: String) {
        self.mask.set_value(mask);
        self.painting.set_value(Painting::default());
        self.count();
        if let Some(dialog) = self.part(|parts| parts.dialog.get_untracked())
            && !dialog.open()
        {
            // Fails only for one that is open, or not in the document.
            let _ = dialog.show_modal();
        }
    }

    /// Puts the sheet away.
    pub fn close(&self) {
        if let Some(dialog) = self.part(|parts| parts.dialog.get_untracked())
            && dialog.open()
        {
            dialog.close();
        }
    }

    /// The picture is there: the canvas gets its size, and the mask there was is put on it.
    pub fn begin(&self) {
        let Some(picture) = self.part(|parts| parts.picture.get_untracked()) else {
            return;
        };
        let Some((canvas, _)) = self.canvas() else {
            return;
        };
        let (width, height) = (picture.natural_width(), picture.natural_height());
        canvas.set_width(width);
        canvas.set_height(height);
        self.lay_out();
        let Some(source) = super::address_of(&self.mask.get_value()) else {
            return;
        };
        let Ok(mask) = HtmlImageElement::new() else {
            return;
        };
        let desk = *self;
        let loaded = mask.clone();
        let on_load = Closure::once_into_js(move || {
            let base = as_paint(&loaded, width, height);
            if desk
                .painting
                .try_update_value(|painting| painting.base = base)
                .is_some()
            {
                desk.redraw();
            }
        });
        mask.set_onload(Some(on_load.unchecked_ref()));
        mask.set_src(&source);
    }

    /// The sheet at its zoom: the whole picture fits the view at 100 %.
    fn lay_out(&self) {
        let laid = self.part(|parts| {
            let (view, sheet) = (parts.view.get_untracked()?, parts.sheet.get_untracked()?);
            let picture = parts.picture.get_untracked()?;
            let (width, height) = (
                f64::from(picture.natural_width().max(1)),
                f64::from(picture.natural_height().max(1)),
            );
            let fit = (f64::from(view.client_width()) / width)
                .min(f64::from(view.client_height()) / height);
            let zoom = parts.zoom.get_untracked();
            let style = HtmlElement::style(&sheet);
            style
                .set_property("width", &format!("{:.1}px", width * fit * zoom))
                .ok()?;
            style
                .set_property("height", &format!("{:.1}px", height * fit * zoom))
                .ok()
        });
        if laid.is_none() {
            leptos::logging::debug_warn!("the mask's sheet is not there");
        }
    }

    /// Changes the zoom.
    pub fn zoom_by(&self, factor: f64) {
        let middle = self.part(|parts| {
            let view = parts.view.get_untracked()?;
            let rect = view.get_bounding_client_rect();
            Some((
                rect.left() + rect.width() / 2.0,
                rect.top() + rect.height() / 2.0,
            ))
        });
        if let Some((x, y)) = middle {
            self.zoom_at(factor, x, y);
        }
    }

    /// Changes the zoom around a place of the window, which keeps what it shows.
    fn zoom_at(&self, factor: f64, x: f64, y: f64) {
        let Some((before, after)) = self.part(|parts| {
            let before = parts.zoom.get_untracked();
            let after = (before * factor).clamp(1.0, MOST_ZOOM);
            parts.zoom.set(after);
            Some((before, after))
        }) else {
            return;
        };
        let place = self.part(|parts| {
            let rect = parts.sheet.get_untracked()?.get_bounding_client_rect();
            Some((x - rect.left(), y - rect.top()))
        });
        self.lay_out();
        let grown = after / before;
        if let Some((across, down)) = place {
            self.scroll(across * (grown - 1.0), down * (grown - 1.0));
        }
    }

    fn scroll(&self, across: f64, down: f64) {
        if let Some(view) = self.part(|parts| parts.view.get_untracked()) {
            view.set_scroll_left(view.scroll_left() + across.round() as i32);
            view.set_scroll_top(view.scroll_top() + down.round() as i32);
        }
    }

    /// A finger, pen or mouse goes down.
    pub fn down(&self, event: &PointerEvent) {
        event.prevent_default();
        let Some((canvas, context)) = self.canvas() else {
            return;
        };
        // Strokes go on outside of the sheet. Fails only for a pointer that is gone.
        let _ = canvas.set_pointer_capture(event.pointer_id());
        let place = self.place(&canvas, event);
        let Some(brush) = self.part(|parts| Some(parts.brush.get_untracked())) else {
            return;
        };
        // The right button of a mouse and the far end of a pen erase.
        let erases = brush.erases || event.button() == 2 || event.button() == 5;
        let longer = f64::from(canvas.width().max(canvas.height()));
        let stroke = Act::Stroke {
            erases,
            width: (longer * brush.share).max(1.0),
            points: vec![place],
        };
        let here = (
            event.pointer_id(),
            f64::from(event.client_x()),
            f64::from(event.client_y()),
        );
        let alone = self.painting.try_update_value(|painting| {
            painting.pointers.retain(|(id, _, _)| *id != here.0);
            painting.pointers.push(here);
            let alone = painting.pointers.len() == 1;
            painting.stroke = alone.then(|| stroke.clone());
            alone
        });
        if alone == Some(true) {
            let (width, height) = (f64::from(canvas.width()), f64::from(canvas.height()));
            draw(&context, &stroke, width, height);
        } else {
            // The second finger zooms: what the first one painted on the way is taken back.
            self.redraw();
        }
    }

    /// It moves.
    pub fn moved(&self, event: &PointerEvent) {
        let Some((canvas, context)) = self.canvas() else {
            return;
        };
        self.show_ring(&canvas, event);
        let place = self.place(&canvas, event);
        let here = (f64::from(event.client_x()), f64::from(event.client_y()));
        let mut piece = None;
        let mut pinch = None;
        self.painting.try_update_value(|painting| {
            let pair_before: Vec<(f64, f64)> = painting
                .pointers
                .iter()
                .take(2)
                .map(|(_, x, y)| (*x, *y))
                .collect();
            let Some(known) = painting
                .pointers
                .iter_mut()
                .find(|(id, _, _)| *id == event.pointer_id())
            else {
                return;
            };
            (known.1, known.2) = here;
            if let Some(Act::Stroke {
                erases,
                width,
                points,
            }) = &mut painting.stroke
            {
                let last = points.last().copied().unwrap_or(place);
                points.push(place);
                piece = Some(Act::Stroke {
                    erases: *erases,
                    width: *width,
                    points: vec![last, place],
                });
            } else if painting.pointers.len() >= 2 {
                let pair: Vec<(f64, f64)> = painting
                    .pointers
                    .iter()
                    .take(2)
                    .map(|(_, x, y)| (*x, *y))
                    .collect();
                pinch = Some((pair_before, pair));
            }
        });
        if let Some(piece) = piece {
            event.prevent_default();
            let (width, height) = (f64::from(canvas.width()), f64::from(canvas.height()));
            draw(&context, &piece, width, height);
        }
        if let Some((before, now)) = pinch
            && let ([a, b], [c, d]) = (&before[..], &now[..])
        {
            let span = |one: &(f64, f64), other: &(f64, f64)| {
                (one.0 - other.0).hypot(one.1 - other.1).max(1.0)
            };
            let middle = |one: &(f64, f64), other: &(f64, f64)| {
                ((one.0 + other.0) / 2.0, (one.1 + other.1) / 2.0)
            };
            let (from, to) = (middle(a, b), middle(c, d));
            self.zoom_at(span(c, d) / span(a, b), to.0, to.1);
            self.scroll(from.0 - to.0, from.1 - to.1);
        }
    }

    /// It goes up.
    pub fn up(&self, event: &PointerEvent) {
        self.painting.try_update_value(|painting| {
            painting
                .pointers
                .retain(|(id, _, _)| *id != event.pointer_id());
            if let Some(stroke) = painting.stroke.take() {
                painting.acts.push(stroke);
                painting.undone.clear();
            }
        });
        self.count();
    }

    /// It leaves the sheet: the ring goes with it.
    pub fn left(&self, _: &PointerEvent) {
        self.part(|parts| {
            let ring = parts.ring.get_untracked()?;
            HtmlElement::style(&ring)
                .set_property("display", "none")
                .ok()
        });
    }

    /// Takes the last act back.
    pub fn undo(&self) {
        self.painting.try_update_value(|painting| {
            if let Some(act) = painting.acts.pop() {
                painting.undone.push(act);
            }
        });
        self.redraw();
    }

    /// Does it again.
    pub fn redo(&self) {
        self.painting.try_update_value(|painting| {
            if let Some(act) = painting.undone.pop() {
                painting.acts.push(act);
            }
        });
        self.redraw();
    }

    /// Paints what was free, and frees what was painted.
    pub fn invert(&self) {
        self.act(Act::Invert);
    }

    /// Takes all paint away.
    pub fn clear(&self) {
        self.act(Act::Clear);
    }

    fn act(&self, act: Act) {
        self.painting.try_update_value(|painting| {
            painting.acts.push(act);
            painting.undone.clear();
        });
        self.redraw();
    }

    fn count(&self) {
        let counts = self
            .painting
            .try_with_value(|painting| (painting.acts.len(), painting.undone.len()));
        if let Some(counts) = counts {
            self.part(|parts| {
                parts.depth.set(counts);
                Some(())
            });
        }
    }

    /// Everything anew from the list of acts.
    fn redraw(&self) {
        self.count();
        let Some((canvas, context)) = self.canvas() else {
            return;
        };
        let (width, height) = (f64::from(canvas.width()), f64::from(canvas.height()));
        self.painting.try_with_value(|painting| {
            context.clear_rect(0.0, 0.0, width, height);
            if let Some(base) = &painting.base {
                // Fails only for a canvas without pixels.
                let _ = context.draw_image_with_html_canvas_element(base, 0.0, 0.0);
            }
            for act in &painting.acts {
                draw(&context, act, width, height);
            }
        });
    }

    /// Where on the canvas an event is, in its pixels.
    fn place(&self, canvas: &HtmlCanvasElement, event: &PointerEvent) -> (f64, f64) {
        let rect = canvas.get_bounding_client_rect();
        let share = |at: f64, size: f64| if size > 0.0 { at / size } else { 0.0 };
        (
            share(f64::from(event.client_x()) - rect.left(), rect.width())
                * f64::from(canvas.width()),
            share(f64::from(event.client_y()) - rect.top(), rect.height())
                * f64::from(canvas.height()),
        )
    }

    /// A ring of the brush's width under the mouse.
    fn show_ring(&self, canvas: &HtmlCanvasElement, event: &PointerEvent) {
        if event.pointer_type() == "touch" {
            return;
        }
        self.part(|parts| {
            let ring = parts.ring.get_untracked()?;
            let rect = canvas.get_bounding_client_rect();
            let wide = parts.brush.get_untracked().share * rect.width().max(rect.height());
            let style = HtmlElement::style(&ring);
            for (name, value) in [
                (
                    "left",
                    f64::from(event.client_x()) - rect.left() - wide / 2.0,
                ),
                ("top", f64::from(event.client_y()) - rect.top() - wide / 2.0),
                ("width", wide),
                ("height", wide),
            ] {
                style.set_property(name, &format!("{value:.1}px")).ok()?;
            }
            style.set_property("display", "block").ok()
        });
    }

    /// Sends the mask as a PNG: white where there is paint, black elsewhere.
    pub fn send(&self, sending: RwSignal<bool>, done: impl Fn(Result<String, String>) + 'static) {
        let lost = "The mask could not be made. Try again.";
        if self.is_blank() != Some(false) {
            done(Err("Nothing is painted yet.".to_owned()));
            return;
        }
        let Some(mask) = self.black_and_white() else {
            done(Err(lost.to_owned()));
            return;
        };
        sending.set(true);
        let on_blob = Closure::once_into_js(move |blob: JsValue| {
            leptos::task::spawn_local(async move {
                let answer = match blob.dyn_into::<Blob>() {
                    Ok(blob) => send(&blob).await,
                    Err(_) => Err(lost.to_owned()),
                };
                if sending.try_set(false).is_none() {
                    done(answer);
                }
            });
        });
        if mask.to_blob(on_blob.unchecked_ref()).is_err() {
            sending.set(false);
        }
    }

    /// Whether there is no paint, as far as a small copy shows.
    fn is_blank(&self) -> Option<bool> {
        const SIDE: u32 = 128;
        let (paint, _) = self.canvas()?;
        let (_, context) = new_canvas(SIDE, SIDE)?;
        let side = f64::from(SIDE);
        context
            .draw_image_with_html_canvas_element_and_dw_and_dh(&paint, 0.0, 0.0, side, side)
            .ok()?;
        let data = context.get_image_data(0.0, 0.0, side, side).ok()?;
        Some(data.data().0.chunks_exact(4).all(|pixel| pixel[3] == 0))
    }

    fn black_and_white(&self) -> Option<HtmlCanvasElement> {
        let (paint, _) = self.canvas()?;
        let (mask, context) = new_canvas(paint.width(), paint.height())?;
        let (width, height) = (f64::from(paint.width()), f64::from(paint.height()));
        context
            .draw_image_with_html_canvas_element(&paint, 0.0, 0.0)
            .ok()?;
        for (how, colour) in [("source-in", "#ffffff"), ("destination-over", "#000000")] {
            context.set_global_composite_operation(how).ok()?;
            context.set_fill_style_str(colour);
            context.fill_rect(0.0, 0.0, width, height);
        }
        Some(mask)
    }
}
