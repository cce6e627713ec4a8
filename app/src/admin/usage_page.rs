//! `/admin/usage`: what the devices were used for, by whom and how fast they were, and what lies on the
//! disk. Range and user are in the address, so that the page works without wasm.

use super::people::{AdminNav, AdminsOnly};
use super::usage_tables::{ByUser, Speeds, Storage};
use super::{DayUse, UsageData, UsageReport, UsageSpan, load_usage};
use crate::account::UserId;
use crate::components::{DayBars, ErrorNotice, Field, date_text, seconds_text};
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::hooks::use_query_map;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `/admin/usage`
#[component]
pub fn UsagePage() -> impl IntoView {
    view! {
        <Title text="Usage · Atelier"/>
        <AdminsOnly>
            <Usage/>
        </AdminsOnly>
    }
}

/// `2026-11-24`, of a day counted from 1970.
pub(super) fn day_text(day: i64) -> String {
    date_text(day * DAY_MS)
}

/// The address of this page for a range and a user.
pub(super) fn address(span: UsageSpan, user: Option<UserId>) -> String {
    let days = span.days();
    match user {
        Some(UserId(user)) => format!("/admin/usage?days={days}&user={user}"),
        None => format!("/admin/usage?days={days}"),
    }
}

#[component]
fn Usage() -> impl IntoView {
    let query = use_query_map();
    let asked = Memo::new(move |_| {
        query.with(|query| {
            let span = UsageSpan::of_days(&query.get("days").unwrap_or_default());
            // What is no number is nobody's, and is answered as such.
            let user = query
                .get("user")
                .filter(|user| !user.is_empty())
                .map(|user| UserId(user.parse().unwrap_or(-1)));
            (span, user)
        })
    });
    let usage = Resource::new(
        move || asked.get(),
        |(span, user)| async move { load_usage(span, user).await },
    );
    view! {
        <div class="page">
            <h1>"Usage"</h1>
            <AdminNav/>
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    let (span, _) = asked.get();
                    match usage.await {
                        Ok(data) => view! { <Everything data=data span=span/> }.into_any(),
                        Err(error) => {
                            #[cfg(feature = "ssr")]
                            if error == crate::error::AppError::NotFound {
                                crate::response::set_status(404);
                            }
                            view! {
                                <ErrorNotice error=error/>
                                <p><a href=address(span, None)>"Usage of everybody"</a></p>
                            }
                            .into_any()
                        }
                    }
                })}
            </Transition>
        </div>
    }
}

#[component]
fn Everything(data: UsageData, span: UsageSpan) -> impl IntoView {
    let UsageData { usage, storage } = data;
    view! {
        <Choice usage=usage.clone() span=span/>
        <Days usage=usage.clone()/>
        <ByUser usage=usage.clone() span=span/>
        <Speeds usage=usage/>
        <Storage storage=storage/>
    }
}

#[component]
fn Choice(usage: UsageReport, span: UsageSpan) -> impl IntoView {
    let ranges = UsageSpan::ALL
        .map(|range| {
            let here = (range == span).then_some("true");
            view! { <a class="tab" href=address(range, usage.user) aria-current=here>{format!("{} days", range.days())}</a> }
        })
        .collect_view();
    let mut users = usage.users;
    users.sort_by(|a, b| a.name.cmp(&b.name));
    let users = users
        .into_iter()
        .map(|row| {
            let here = usage.user == Some(row.id);
            view! { <option value=row.id.0.to_string() selected=here>{row.name}</option> }
        })
        .collect_view();
    view! {
        <div class="usage-choice">
            <nav class="tabs" aria-label="Range">{ranges}</nav>
            <form class="usage-who" method="get" action="/admin/usage">
                <input type="hidden" name="days" value=span.days().to_string()/>
                <Field id="usage-user" label="Whose">
                    <select class="input" id="usage-user" name="user" aria-describedby="usage-user-note">
                        <option value="" selected=usage.user.is_none()>"everybody's"</option>
                        {users}
                    </select>
                </Field>
                <button class="button row-button" type="submit">"Show"</button>
            </form>
        </div>
    }
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

/// A value for each day of the span, days without use among them.
fn filled(usage: &UsageReport, value: impl Fn(&DayUse) -> f64) -> Vec<f64> {
    let count = usize::try_from(usage.to_day - usage.from_day + 1).unwrap_or_default();
    let mut values = vec![0.0; count];
    for day in &usage.days {
        let place = usize::try_from(day.day - usage.from_day).ok();
        if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
            *slot = value(day);
        }
    }
    values
}

/// Images and device time, day by day.
#[component]
fn Days(usage: UsageReport) -> impl IntoView {
    let whose = usage
        .user
        .and_then(|id| usage.users.iter().find(|row| row.id == id))
        .map(|row| row.name.clone());
    let title = match &whose {
        Some(name) => format!("What {name} used, day by day"),
        None => "What everybody used, day by day".into(),
    };
    let images: u64 = usage.days.iter().map(|day| u64::from(day.images)).sum();
    let seconds: f64 = usage.days.iter().map(|day| day.seconds).sum();
    let (from, to) = (day_text(usage.from_day), day_text(usage.to_day));
    let rows = usage
        .days
        .iter()
        .rev()
        .map(|day| {
            view! {
                <tr>
                    <th scope="row" class="number">{day_text(day.day)}</th>
                    <td class="right number">{day.images}</td>
                    <td class="right number">{seconds_text(day.seconds)}</td>
                </tr>
            }
        })
        .collect_view();
    let table = if usage.days.is_empty() {
        view! { <p class="quiet">"Nothing was made in these days. The first image shows here as soon as it is done."</p> }.into_any()
    } else {
        view! {
            <details class="fold">
                <summary>"These days as a table"</summary>
                <div class="table-frame usage-days" tabindex="0" role="region" aria-label="Use by day">
                    <table class="table">
                        <thead>
                            <tr>
                                <th scope="col">"Day (UTC)"</th>
                                <th scope="col" class="right">"Images"</th>
                                <th scope="col" class="right">"Device time"</th>
                            </tr>
                        </thead>
                        <tbody>{rows}</tbody>
                    </table>
                </div>
                <p class="quiet small">"Days without use are left out."</p>
            </details>
        }
        .into_any()
    };
    view! {
        <section aria-labelledby="days-title">
            <h2 id="days-title">{title}</h2>
            <div class="usage-plots">
                <div class="card usage-plot">
                    <h3>"Images"</h3>
                    <p class="usage-sum">{images}</p>
                    <DayBars label="Images a day".into() values=filled(&usage, |day| f64::from(day.images)) words=whole from=from.clone() to=to.clone()/>
                </div>
                <div class="card usage-plot">
                    <h3>"Device time"</h3>
                    <p class="usage-sum">{seconds_text(seconds)}</p>
                    <DayBars label="Device time a day".into() values=filled(&usage, |day| day.seconds) words=seconds_text from=from to=to/>
                </div>
            </div>
            {table}
        </section>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_its_bar() {
        let usage = UsageReport {
            from_day: 20_000,
            to_day: 20_006,
            user: None,
            days: vec![
                DayUse {
                    day: 20_000,
                    seconds: 3.0,
                    images: 1,
                },
                DayUse {
                    day: 20_006,
                    seconds: 5.0,
                    images: 2,
                },
                // Of a clock that went back.
                DayUse {
                    day: 20_007,
                    seconds: 9.0,
                    images: 9,
                },
            ],
            users: Vec::new(),
            left_seconds: 0.0,
            left_images: 0,
            speeds: Vec::new(),
        };
        let values = filled(&usage, |day| day.seconds);
        assert_eq!(values, [3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0]);
        assert_eq!(day_text(20_000), "2024-10-04");
        assert_eq!(
            address(UsageSpan::Year, Some(UserId(3))),
            "/admin/usage?days=365&user=3"
        );
    }
}
