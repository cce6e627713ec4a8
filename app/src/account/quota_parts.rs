//! What is left of a quota, shown where it matters: on the account page and beside the studio's button.

use super::{QuotaReport, load_quota};
use crate::components::Moment;
use crate::live::use_live;
use leptos::prelude::*;

/// Bars of what is used; nothing where nothing is limited.
#[component]
pub fn QuotaBars(
    /// Limits and use.
    report: QuotaReport,
) -> impl IntoView {
    let left = report.left();
    if left.is_empty() {
        return ().into_any();
    }
    let rows = left
        .into_iter()
        .map(|left| {
            let label = format!("Used: {}", left.words);
            view! {
                <li class="quota-row">
                    <span>{left.words}</span>
                    <progress class="progress" max="1" value=format!("{:.4}", left.used) aria-label=label></progress>
                    <span class="quiet small">"All of it is there again "<Moment at=left.ends_at/></span>
                </li>
            }
        })
        .collect_view();
    view! { <ul class="quota">{rows}</ul> }.into_any()
}

/// The report, asked for again when a job comes or goes.
fn quota_now() -> Resource<Result<QuotaReport, crate::error::AppError>> {
    let live = use_live();
    let open = Memo::new(move |_| {
        live.jobs
            .with(|jobs| jobs.iter().filter(|job| !job.state.is_final()).count())
    });
    Resource::new(move || open.get(), |_| load_quota())
}

/// The account page's card; nothing where nothing is limited.
#[component]
pub(super) fn QuotaCard() -> impl IntoView {
    let quota = quota_now();
    view! {
        <Transition>
            {move || Suspend::new(async move {
                let report = quota.await.ok().filter(|report| !report.limits.is_none())?;
                Some(view! {
                    <section class="card" aria-labelledby="quota-title">
                        <h2 id="quota-title">"What is left of your quota"</h2>
                        <QuotaBars report=report/>
                        <p class="quiet">"Images and the devices' seconds count on the day on which they are done; what waits in the queue counts already, and what was in your gallery before costs nothing. Administrators of this server set quotas."</p>
                    </section>
                })
            })}
        </Transition>
    }
}

/// The studio's lines: of images and of device time the limit that is nearest.
#[component]
pub fn QuotaLine() -> impl IntoView {
    let quota = quota_now();
    view! {
        <Transition>
            {move || Suspend::new(async move {
                let left = quota.await.map(|report| report.left()).unwrap_or_default();
                let mut nearest = left;
                nearest.sort_by(|a, b| b.used.total_cmp(&a.used));
                nearest.truncate(2);
                (!nearest.is_empty()).then(|| {
                    let lines = nearest
                        .into_iter()
                        .map(|left| {
                            let more = left.is_used_up().then(|| view! { ". There is more from "<Moment at=left.ends_at/> });
                            let class = if left.is_used_up() { "quota-line quota-used-up" } else { "quota-line" };
                            view! { <p class=class>{left.words}{more}</p> }
                        })
                        .collect_view();
                    view! { <div id="quota-left" role="group" aria-label="What is left of your quota">{lines}</div> }
                })
            })}
        </Transition>
    }
}
