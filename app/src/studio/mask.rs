//! Painting a mask over the image to start from.

#[cfg(feature = "hydrate")]
#[path = "mask_canvas.rs"]
mod canvas;

use super::draft::Draft;
use super::start_image::address_of;
use leptos::html;
use leptos::prelude::*;

/// The brush.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Brush {
    /// Its width as a share of the image's longer side.
    pub share: f64,
    /// Whether it takes paint away.
    pub erases: bool,
}

/// A button that opens a sheet to paint on.
#[component]
pub fn MaskPainter(
    /// What is being typed.
    draft: Draft,
    /// The form's image to start from.
    image: Memo<String>,
    /// The form's mask.
    mask: Memo<String>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let view_node = NodeRef::<html::Div>::new();
    let sheet = NodeRef::<html::Div>::new();
    let picture = NodeRef::<html::Img>::new();
    let paint = NodeRef::<html::Canvas>::new();
    let ring = NodeRef::<html::Div>::new();
    let open = RwSignal::new(false);
    let brush = RwSignal::new(Brush {
        share: 0.08,
        erases: false,
    });
    let zoom = RwSignal::new(1.0f64);
    let problem = RwSignal::new(None::<String>);
    let sending = RwSignal::new(false);
    // (acts that can be undone, acts that can be done again)
    let depth = RwSignal::new((0usize, 0usize));
    let desk = dom::desk(dom::Parts {
        dialog,
        view: view_node,
        sheet,
        picture,
        paint,
        ring,
        brush,
        zoom,
        depth,
    });
    let show = move |_| {
        problem.set(None);
        open.set(true);
        zoom.set(1.0);
        desk.open(mask.get_untracked());
    };
    let close = move || {
        open.set(false);
        desk.close();
    };
    let done = move |_| {
        problem.set(None);
        desk.send(sending, move |answer| match answer {
            Ok(upload) => {
                draft.change(|form| form.mask = upload);
                close();
            }
            Err(words) => problem.set(Some(words)),
        });
    };
    let keys = move |event: leptos::ev::KeyboardEvent| {
        let with = event.ctrl_key() || event.meta_key();
        let key = event.key().to_lowercase();
        match key.as_str() {
            "z" if with && event.shift_key() => desk.redo(),
            "y" if with => desk.redo(),
            "z" if with => desk.undo(),
            "[" => brush.update(|brush| brush.share = (brush.share / 1.25).max(0.005)),
            "]" => brush.update(|brush| brush.share = (brush.share * 1.25).min(0.5)),
            "e" if !with => brush.update(|brush| brush.erases = !brush.erases),
            "+" | "=" if !with => desk.zoom_by(1.25),
            "-" if !with => desk.zoom_by(0.8),
            "enter" => {
                // The form around must not be sent by a key meant for a slider.
                let on_button = dom::is_button(&event);
                if on_button {
                    return;
                }
            }
            _ => return,
        }
        event.prevent_default();
        event.stop_propagation();
    };
    let set_width = move |event: leptos::ev::Event| {
        if let Ok(percent) = event_target_value(&event).parse::<f64>() {
            brush.update(|brush| brush.share = percent / 100.0);
        }
    };
    let percent = move || format!("{:.1}", brush.get().share * 100.0);
    view! {
        <button class="button button-small" type="button" on:click=show>
            {move || if mask.with(|mask| mask.is_empty()) { "Paint a mask" } else { "Change the mask" }}
        </button>
        <dialog class="mask-dialog" node_ref=dialog aria-label="Paint a mask" on:keydown=keys on:close=move |_| close()>
            <div class="mask-tools" role="toolbar" aria-label="Painting">
                <div class="row">
                    <button class="chip" type="button" aria-pressed=move || (!brush.get().erases).to_string() on:click=move |_| brush.update(|brush| brush.erases = false)>"Brush"</button>
                    <button class="chip" type="button" aria-pressed=move || brush.get().erases.to_string() on:click=move |_| brush.update(|brush| brush.erases = true)>"Erase"</button>
                </div>
                <label class="mask-slider small">
                    <span>"Size"</span>
                    <input type="range" min="0.5" max="50" step="0.5" aria-label="Brush size in percent" prop:value=percent
                        on:input=set_width/>
                </label>
                <div class="row row-wrap">
                    <button class="button button-small" type="button" on:click=move |_| desk.undo() disabled=move || depth.get().0 == 0>"Undo"</button>
                    <button class="button button-small" type="button" on:click=move |_| desk.redo() disabled=move || depth.get().1 == 0>"Redo"</button>
                    <button class="button button-small" type="button" on:click=move |_| desk.invert()>"Invert"</button>
                    <button class="button button-small" type="button" on:click=move |_| desk.clear()>"Clear"</button>
                    <button class="button button-small" type="button" on:click=move |_| desk.zoom_by(0.8) aria-label="Zoom out">"−"</button>
                    <span class="number small">{move || format!("{:.0} %", zoom.get() * 100.0)}</span>
                    <button class="button button-small" type="button" on:click=move |_| desk.zoom_by(1.25) aria-label="Zoom in">"+"</button>
                </div>
                <div class="row mask-end">
                    <button class="button button-small" type="button" on:click=move |_| close()>"Close"</button>
                    <button class="button button-small button-main" type="button" on:click=done disabled=move || sending.get()>
                        {move || if sending.get() { "Sending …" } else { "Use the mask" }}
                    </button>
                </div>
            </div>
            {move || problem.get().map(|words| view! { <p class="field-error mask-problem" role="alert">{words}</p> })}
            <div class="mask-view" node_ref=view_node>
                <div class="mask-sheet" node_ref=sheet>
                    {move || open.get().then(|| address_of(&image.get())).flatten().map(|source| view! {
                        <img class="mask-under" node_ref=picture src=source alt="" draggable="false" on:load=move |_| desk.begin()
                            on:error=move |_| problem.set(Some("This image is not there any more.".into()))/>
                    })}
                    <canvas class="mask-paint" node_ref=paint aria-label="What is painted will be made anew"
                        on:pointerdown=move |event| desk.down(&event)
                        on:pointermove=move |event| desk.moved(&event)
                        on:pointerup=move |event| desk.up(&event)
                        on:pointercancel=move |event| desk.up(&event)
                        on:pointerleave=move |event| desk.left(&event)></canvas>
                    <div class="mask-ring" node_ref=ring aria-hidden="true"></div>
                </div>
            </div>
            <p class="quiet small mask-hint">"Paint what should be made anew. Two fingers zoom and move. Keys: [ and ] change the brush, E erases, Ctrl Z undoes."</p>
        </dialog>
    }
}

#[cfg(feature = "hydrate")]
mod dom {
    pub(super) use super::canvas::{Parts, desk, is_button};
}

#[cfg(not(feature = "hydrate"))]
mod dom {
    use super::Brush;
    use leptos::html;
    use leptos::prelude::*;

    #[allow(dead_code, reason = "the browser's half uses them")]
    pub(super) struct Parts {
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

    /// Nothing is painted on a server.
    #[derive(Clone, Copy)]
    pub(super) struct Desk;

    pub(super) fn desk(_: Parts) -> Desk {
        Desk
    }

    pub(super) fn is_button(_: &leptos::ev::KeyboardEvent) -> bool {
        false
    }

    impl Desk {
        pub fn open(&self, _: String) {}
        pub fn close(&self) {}
        pub fn begin(&self) {}
        pub fn undo(&self) {}
        pub fn redo(&self) {}
        pub fn invert(&self) {}
        pub fn clear(&self) {}
        pub fn zoom_by(&self, _: f64) {}
        pub fn down(&self, _: &leptos::ev::PointerEvent) {}
        pub fn moved(&self, _: &leptos::ev::PointerEvent) {}
        pub fn up(&self, _: &leptos::ev::PointerEvent) {}
        pub fn left(&self, _: &leptos::ev::PointerEvent) {}
        pub fn send(&self, _: RwSignal<bool>, _: impl Fn(Result<String, String>) + 'static) {}
    }
}
