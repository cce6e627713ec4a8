//! The tables of the page about usage: by user, speeds, space on the disk.

use super::usage_page::{address, day_text};
use super::{SpeedLine, StorageReport, UsageReport, UsageSpan};
use crate::components::{Plot, bytes_text, number_text, seconds_text};
use leptos::prelude::*;

fn percent(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!("{:.0} %", 100.0 * part / whole)
    } else {
        "–".into()
    }
}

/// What each user had in the span, and their weight.
#[component]
pub(super) fn ByUser(usage: UsageReport, span: UsageSpan) -> impl IntoView {
    let seconds: f64 = usage.users.iter().map(|row| row.seconds).sum::<f64>() + usage.left_seconds;
    let images: u64 = usage
        .users
        .iter()
        .map(|row| u64::from(row.images))
        .sum::<u64>()
        + u64::from(usage.left_images);
    let rows = usage
        .users
        .into_iter()
        .map(|row| {
            let person = format!("/admin/people/{}", row.id.0);
            // What is written is part of the link's name.
            let label = format!("{}: quota and weight of {}", number_text(row.weight), row.name);
            view! {
                <tr>
                    <th scope="row"><a href=address(span, Some(row.id))>{row.name}</a></th>
                    <td class="right number">{seconds_text(row.seconds)}</td>
                    <td class="right number">{percent(row.seconds, seconds)}</td>
                    <td class="right number">{row.images}</td>
                    <td class="right number"><a href=person aria-label=label>{number_text(row.weight)}</a></td>
                </tr>
            }
        })
        .collect_view();
    let left = (usage.left_images > 0 || usage.left_seconds > 0.0).then(|| {
        view! {
            <tr>
                <th scope="row" class="quiet">"users who were removed"</th>
                <td class="right number">{seconds_text(usage.left_seconds)}</td>
                <td class="right number">{percent(usage.left_seconds, seconds)}</td>
                <td class="right number">{usage.left_images}</td>
                <td></td>
            </tr>
        }
    });
    view! {
        <section aria-labelledby="by-user-title">
            <h2 id="by-user-title">"By user"</h2>
            <p class="quiet">"Device time is what the devices spent on a user's images, cancelled and failed ones among them. The weight is a user's share while others wait too; 1 is usual."</p>
            <div class="table-frame" tabindex="0" role="region" aria-labelledby="by-user-title">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"Who"</th>
                            <th scope="col" class="right">"Device time"</th>
                            <th scope="col" class="right">"Share"</th>
                            <th scope="col" class="right">"Images"</th>
                            <th scope="col" class="right">"Weight"</th>
                        </tr>
                    </thead>
                    <tbody>{rows}{left}</tbody>
                    <tfoot>
                        <tr>
                            <th scope="row">"Everybody"</th>
                            <td class="right number">{seconds_text(seconds)}</td>
                            <td class="right number">{percent(seconds, seconds)}</td>
                            <td class="right number">{images}</td>
                            <td></td>
                        </tr>
                    </tfoot>
                </table>
            </div>
        </section>
    }
}

/// How fast each model was on each device, day by day.
#[component]
pub(super) fn Speeds(usage: UsageReport) -> impl IntoView {
    let (from_day, to_day) = (usage.from_day, usage.to_day);
    let body = if usage.speeds.is_empty() {
        view! { <p class="quiet">"No speed was measured in these days. Each finished image is one measurement."</p> }.into_any()
    } else {
        let cards = usage
            .speeds
            .into_iter()
            .map(|line| view! { <SpeedCard line=line from_day=from_day to_day=to_day/> })
            .collect_view();
        view! { <div class="usage-plots">{cards}</div> }.into_any()
    };
    view! {
        <section aria-labelledby="speed-title">
            <h2 id="speed-title">"Speed"</h2>
            <p class="quiet">"Seconds of denoising for one step of one megapixel (1024×1024 is 1.05), of each model on each device; less is faster. A step without guidance counts half, because the UNet runs once in place of twice. Loading the model and decoding are not in it."</p>
            {body}
        </section>
    }
}

#[component]
fn SpeedCard(line: SpeedLine, from_day: i64, to_day: i64) -> impl IntoView {
    let span = (to_day - from_day).max(1) as f64;
    let points: Vec<(f64, f64)> = line
        .days
        .iter()
        .map(|point| ((point.day - from_day) as f64 / span, point.seconds))
        .collect();
    let latest = line.days.last().map(|point| seconds_text(point.seconds));
    let name = format!("{} on {}", line.model, line.device);
    let table_name = format!("Speed of {name} by day");
    let images = match line.images {
        1 => "1 image".to_owned(),
        many => format!("{many} images"),
    };
    let rows = line
        .days
        .iter()
        .rev()
        .map(|point| {
            view! {
                <tr>
                    <th scope="row" class="number">{day_text(point.day)}</th>
                    <td class="right number">{seconds_text(point.seconds)}</td>
                    <td class="right number">{point.images}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <div class="card usage-plot">
            <h3>{line.model}<span class="quiet">" on "{line.device}</span></h3>
            <p class="usage-sum">{latest}<span class="quiet small">{format!(" latest, from {images}")}</span></p>
            <Plot label=format!("Seconds for a step of one megapixel, {name}") points=points words=seconds_text from=day_text(from_day) to=day_text(to_day)/>
            <details class="fold">
                <summary>"As a table"</summary>
                <div class="table-frame usage-days" tabindex="0" role="region" aria-label=table_name>
                    <table class="table">
                        <thead>
                            <tr>
                                <th scope="col">"Day (UTC)"</th>
                                <th scope="col" class="right">"Step of a megapixel"</th>
                                <th scope="col" class="right">"Images"</th>
                            </tr>
                        </thead>
                        <tbody>{rows}</tbody>
                    </table>
                </div>
            </details>
        </div>
    }
}

/// What each user's files take, and what is free.
#[component]
pub(super) fn Storage(storage: StorageReport) -> impl IntoView {
    let all: u64 = storage.users.iter().map(super::UserSpace::bytes).sum();
    let disk = storage.free_bytes.zip(storage.disk_bytes);
    let disk = match disk {
        Some((free, disk)) => {
            let used = disk.saturating_sub(free) as f64 / (disk.max(1)) as f64;
            let label = format!("{:.0} % of the disk is used", 100.0 * used);
            view! {
                <div class="usage-disk">
                    <p>{format!("{} of {} are free on the disk of {}.", bytes_text(free), bytes_text(disk), storage.folder)}</p>
                    <progress class="progress" max="1" value=format!("{used:.4}") aria-label=label></progress>
                </div>
            }
            .into_any()
        }
        None => view! { <p class="quiet">{format!("The system does not tell how much is free on the disk of {}.", storage.folder)}</p> }.into_any(),
    };
    let pair = |count: u64, bytes: u64| match count {
        0 => "–".to_owned(),
        count => format!("{count} · {}", bytes_text(bytes)),
    };
    let rows = storage
        .users
        .into_iter()
        .map(|row| {
            let bytes = row.bytes();
            view! {
                <tr>
                    <th scope="row"><a href=format!("/admin/people/{}", row.id.0)>{row.name}</a></th>
                    <td class="right number">{pair(row.images, row.image_bytes)}</td>
                    <td class="right number">{pair(row.trashed, row.trashed_bytes)}</td>
                    <td class="right number">{pair(row.uploads, row.upload_bytes)}</td>
                    <td class="right number">{bytes_text(bytes)}</td>
                    <td class="right number">{percent(bytes as f64, all as f64)}</td>
                </tr>
            }
        })
        .collect_view();
    view! {
        <section aria-labelledby="storage-title">
            <h2 id="storage-title">"Storage"</h2>
            {disk}
            <p class="quiet">{format!("Everybody's files take {}, the database {}.", bytes_text(all), bytes_text(storage.database_bytes))}</p>
            <div class="table-frame" tabindex="0" role="region" aria-labelledby="storage-title">
                <table class="table">
                    <thead>
                        <tr>
                            <th scope="col">"Whose"</th>
                            <th scope="col" class="right">"Images"</th>
                            <th scope="col" class="right">"Trash"</th>
                            <th scope="col" class="right">"Uploads"</th>
                            <th scope="col" class="right">"Together"</th>
                            <th scope="col" class="right">"Share"</th>
                        </tr>
                    </thead>
                    <tbody>{rows}</tbody>
                </table>
            </div>
        </section>
    }
}
