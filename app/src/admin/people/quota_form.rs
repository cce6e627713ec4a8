//! Quotas and weights, set by administrators: everybody's limits, a user's own, their share.

use super::super::{
    PersonQuota, SetEverybodysQuota, SetOwnQuota, SetWeight, load_everybodys_quota, load_quota_of,
};
use super::people_page::{failed, renew_after};
use crate::account::{QuotaBars, QuotaLimits, UserId};
use crate::components::{
    Answer, ErrorNotice, Notice, TextField, Tone, field_error, number_text, seconds_text,
};
use leptos::form::ActionForm;
use leptos::prelude::*;

/// The four fields of limits; empty ones do not limit.
#[component]
fn LimitFields(limits: QuotaLimits, answer: Answer<()>) -> impl IntoView {
    let text = |limit: Option<u32>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    view! {
        <TextField id="day-images" name="day_images" label="Images a day" kind="number" required=false value=text(limits.day_images) error=field_error(answer, "day_images")/>
        <TextField id="day-seconds" name="day_seconds" label="Device seconds a day" kind="number" required=false value=text(limits.day_seconds) error=field_error(answer, "day_seconds")/>
        <TextField id="month-images" name="month_images" label="Images a month" kind="number" required=false value=text(limits.month_images) error=field_error(answer, "month_images")/>
        <TextField id="month-seconds" name="month_seconds" label="Device seconds a month" kind="number" required=false value=text(limits.month_seconds) error=field_error(answer, "month_seconds")/>
    }
}

/// Limits of whoever has none of their own.
#[component]
pub(super) fn EverybodysQuota() -> impl IntoView {
    let action = ServerAction::<SetEverybodysQuota>::new();
    let changes = RwSignal::new(0u32);
    renew_after(action, changes);
    let limits = Resource::new(move || changes.get(), |_| load_everybodys_quota());
    let saved = move || {
        matches!(action.value().get(), Some(Ok(()))).then(
            || view! { <Notice tone=Tone::Good>"Set. It holds for the next request."</Notice> },
        )
    };
    view! {
        <section class="card" aria-labelledby="quota-title">
            <h2 id="quota-title">"Everybody's quota"</h2>
            <p class="quiet">"How much each user may have, unless they have limits of their own on their page; administrators too. Empty means no limit, 0 means nothing. Days and months are those of UTC. What waits in the queue counts as used; what was in the gallery already costs nothing."</p>
            {saved}
            {failed(action)}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match limits.await {
                        Ok(limits) => view! {
                            <ActionForm action=action>
                                <div class="invite-fields">
                                    <LimitFields limits=limits answer=action.value()/>
                                    <button class="button row-button" type="submit" disabled=move || action.pending().get()>"Set everybody's quota"</button>
                                </div>
                            </ActionForm>
                        }
                        .into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </section>
    }
}

/// A user's own limits, what they used, and their weight.
#[component]
pub(super) fn PersonQuotaCard(id: UserId) -> impl IntoView {
    let set = ServerAction::<SetOwnQuota>::new();
    let weigh = ServerAction::<SetWeight>::new();
    let changes = RwSignal::new(0u32);
    renew_after(set, changes);
    renew_after(weigh, changes);
    let quota = Resource::new(move || changes.get(), move |_| load_quota_of(id));
    view! {
        <section class="card" aria-labelledby="quota-title">
            <h2 id="quota-title">"Quota and share"</h2>
            {failed(set)}
            {failed(weigh)}
            <Transition fallback=|| view! { <p class="quiet">"Loading …"</p> }>
                {move || Suspend::new(async move {
                    match quota.await {
                        Ok(quota) => view! { <Forms id=id quota=quota set=set weigh=weigh/> }.into_any(),
                        Err(error) => view! { <ErrorNotice error=error/> }.into_any(),
                    }
                })}
            </Transition>
        </section>
    }
}

#[component]
fn Forms(
    id: UserId,
    quota: PersonQuota,
    set: ServerAction<SetOwnQuota>,
    weigh: ServerAction<SetWeight>,
) -> impl IntoView {
    let PersonQuota { report, weight } = quota;
    let used = format!(
        "Today {} images and {} of device time; this month {} images and {}.",
        report.day.images,
        seconds_text(report.day.seconds),
        report.month.images,
        seconds_text(report.month.seconds)
    );
    let words = if report.is_own {
        "These limits are their own."
    } else {
        "They have everybody's limits. Setting others makes these their own."
    };
    let back = report.is_own.then(|| {
        view! {
            <ActionForm action=set>
                <input type="hidden" name="id" value=id.0.to_string()/>
                <input type="hidden" name="as_everybody" value="true"/>
                <button class="button" type="submit" disabled=move || set.pending().get()>"Give them everybody's limits"</button>
            </ActionForm>
        }
    });
    view! {
        <p class="quiet">{used}" "{words}" Empty means no limit, 0 means nothing."</p>
        <QuotaBars report=report/>
        <ActionForm action=set>
            <input type="hidden" name="id" value=id.0.to_string()/>
            <div class="invite-fields">
                <LimitFields limits=report.limits answer=set.value()/>
                <button class="button row-button" type="submit" disabled=move || set.pending().get()>"Set their quota"</button>
            </div>
        </ActionForm>
        {back}
        <ActionForm action=weigh>
            <input type="hidden" name="id" value=id.0.to_string()/>
            <div class="row-fields">
                <TextField
                    id="weight" name="weight" label="Weight"
                    hint="From 0.1 to 10; 1 is usual. While others wait too, a user with weight 2 gets twice as much of the devices' time as one with weight 1, and one with 0.5 half as much. Alone they get all of it."
                    value=number_text(weight) error=field_error(weigh.value(), "weight")
                />
                <button class="button row-button" type="submit" disabled=move || weigh.pending().get()>"Set the weight"</button>
            </div>
        </ActionForm>
    }
}
