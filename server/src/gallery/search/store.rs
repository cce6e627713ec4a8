//! Pages and counts of what a query asks for, in SQL. Statements are put together from constant
//! parts; every value is bound.

use sqlx::{FromRow, QueryBuilder, Sqlite};
use std::collections::HashSet;

use atelier_app::account::Viewer;
use atelier_app::gallery::{FacetValue, Facets, ImageCard, ImageId};

use super::Filter;
use crate::db::Db;
use crate::error::ServerError;

/// Most matches of words, and most images of a collection, that are counted: the latest ones. All
/// images of a user are counted from an index that is in the counts' own order.
const MOST_COUNTED: i64 = 10_000;

/// Whose images are asked for: one's own, or those of somebody's collection.
#[derive(Clone, Copy, Debug)]
pub(in crate::gallery) struct Scope {
    pub owner: i64,
}

#[derive(FromRow)]
pub(in crate::gallery) struct CardRow {
    pub id: String,
    pub width: u32,
    pub height: u32,
    pub dominant_colour: String,
    pub prompt: String,
    pub created_at: i64,
    pub favourite: bool,
    pub rating: u8,
    pub number: i64,
}

impl CardRow {
    /// As its owner sees it (`mine`), or as somebody else does: without its owner's marks.
    pub fn into_card(self, mine: bool) -> ImageCard {
        ImageCard {
            id: ImageId(self.id),
            width: self.width,
            height: self.height,
            dominant_colour: self.dominant_colour,
            prompt: self.prompt,
            created_at: self.created_at,
            favourite: mine && self.favourite,
            rating: if mine { self.rating } else { 0 },
        }
    }
}

/// What several images have in common.
#[derive(FromRow)]
struct Look {
    id: i64,
    model: String,
    width: u32,
    height: u32,
    scheduler: String,
    device: String,
}

/// Whose images the query is about; `None` where it names a collection that the viewer cannot see.
pub(in crate::gallery) async fn scope(
    db: &Db,
    viewer: &Viewer,
    filter: &Filter,
) -> Result<Option<Scope>, ServerError> {
    let Some(collection) = &filter.collection else {
        return Ok(Some(Scope { owner: viewer.id.0 }));
    };
    let owner: Option<i64> = sqlx::query_scalar(
        "select user_id from collection where id = ?1 and (user_id = ?2 or shared = 1)",
    )
    .bind(collection)
    .bind(viewer.id.0)
    .fetch_optional(db.read())
    .await?;
    Ok(owner.map(|owner| Scope { owner }))
}

/// Where matches come from, newest first, as the end of a `select`. `None`: nothing can match.
fn matches(
    builder: &mut QueryBuilder<Sqlite>,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
) -> Option<&'static str> {
    let words = match &filter.words {
        None => None,
        Some(words) => Some(words.expression(scope.owner)?),
    };
    let order = if let Some(words) = words {
        builder.push(
            " from image_text cross join image on image.number = image_text.rowid where image_text match ",
        );
        builder.push_bind(words);
        if let Some(collection) = &filter.collection {
            builder.push(
                " and exists (select 1 from collection_image c where c.image_number = image.number and c.collection_id = ",
            );
            builder.push_bind(collection.clone());
            builder.push(")");
        }
        "image_text.rowid"
    } else if let Some(collection) = &filter.collection {
        builder.push(
            " from collection_image c cross join image on image.number = c.image_number where c.collection_id = ",
        );
        builder.push_bind(collection.clone());
        "c.image_number"
    } else {
        builder.push(" from image where true");
        "image.number"
    };
    builder.push(" and image.trashed_at is null and image.user_id = ");
    builder.push_bind(scope.owner);
    if let Some(before) = before {
        builder.push(format_args!(" and {order} < "));
        builder.push_bind(before);
    }
    if let Some(seed) = filter.seed {
        builder.push(" and image.seed = ");
        builder.push_bind(seed.to_string());
    }
    Some(order)
}

/// The parts of a query that facets are made of.
fn narrow(builder: &mut QueryBuilder<Sqlite>, filter: &Filter, looks: Option<&HashSet<i64>>) {
    if let Some(looks) = looks {
        builder.push(" and image.look_id in (select value from json_each(");
        let ids: Vec<String> = looks.iter().map(i64::to_string).collect();
        builder.push_bind(format!("[{}]", ids.join(",")));
        builder.push("))");
    }
    if filter.favourite {
        builder.push(" and image.favourite = 1");
    }
    if filter.rating > 0 {
        builder.push(" and image.rating >= ");
        builder.push_bind(i64::from(filter.rating));
    }
    in_month(builder, filter);
}

fn in_month(builder: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    if let Some(month) = filter.month {
        // The plus keeps the order that the caller wants: the month's own index has another.
        builder.push(" and +image.month = ");
        builder.push_bind(i64::from(month));
    }
}

/// The looks that a query allows; `None` where it allows all.
fn allowed(filter: &Filter, looks: &[Look]) -> Option<HashSet<i64>> {
    filter.names_a_look().then(|| {
        let allowed = looks.iter().filter(|look| {
            has_model(filter, look)
                && has_size(filter, look)
                && has_scheduler(filter, look)
                && has_device(filter, look)
        });
        allowed.map(|look| look.id).collect()
    })
}

fn has_model(filter: &Filter, look: &Look) -> bool {
    filter
        .model
        .as_ref()
        .is_none_or(|model| *model == look.model)
}

fn has_size(filter: &Filter, look: &Look) -> bool {
    filter
        .size
        .is_none_or(|size| size == (look.width, look.height))
}

fn has_scheduler(filter: &Filter, look: &Look) -> bool {
    filter
        .scheduler
        .as_ref()
        .is_none_or(|scheduler| *scheduler == look.scheduler)
}

fn has_device(filter: &Filter, look: &Look) -> bool {
    filter
        .device
        .as_ref()
        .is_none_or(|device| *device == look.device)
}

async fn looks(db: &Db) -> Result<Vec<Look>, ServerError> {
    Ok(
        sqlx::query_as("select id, model, width, height, scheduler, device from look")
            .fetch_all(db.read())
            .await?,
    )
}

/// The matches before a number, newest first.
pub(in crate::gallery) async fn page(
    db: &Db,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<CardRow>, ServerError> {
    let allowed = match filter.names_a_look() {
        true => allowed(filter, &looks(db).await?),
        false => None,
    };
    let mut builder = QueryBuilder::new(
        "select image.id, width, height, dominant_colour, image.prompt, created_at, favourite, rating, number",
    );
    let Some(order) = matches(&mut builder, scope, filter, before) else {
        return Ok(Vec::new());
    };
    narrow(&mut builder, filter, allowed.as_ref());
    builder.push(format_args!(" order by {order} desc limit "));
    builder.push_bind(i64::from(limit));
    Ok(builder.build_query_as().fetch_all(db.read()).await?)
}

/// How many matches there are, and whether there are more than that.
pub(in crate::gallery) async fn count(
    db: &Db,
    scope: Scope,
    filter: &Filter,
) -> Result<(u64, bool), ServerError> {
    let allowed = match filter.names_a_look() {
        true => allowed(filter, &looks(db).await?),
        false => None,
    };
    let limit = most_counted(filter);
    let mut builder = QueryBuilder::new("select count(*) from (select 1");
    let Some(order) = matches(&mut builder, scope, filter, None) else {
        return Ok((0, false));
    };
    narrow(&mut builder, filter, allowed.as_ref());
    if let Some(limit) = limit {
        builder.push(format_args!(" order by {order} desc limit "));
        builder.push_bind(limit + 1);
    }
    builder.push(")");
    let count: i64 = builder.build_query_scalar().fetch_one(db.read()).await?;
    let shown = limit.map_or(count, |limit| count.min(limit));
    Ok((u64::try_from(shown).unwrap_or(0), count > shown))
}

fn most_counted(filter: &Filter) -> Option<i64> {
    (filter.words.is_some() || filter.collection.is_some()).then_some(MOST_COUNTED)
}

/// How often each value of each facet is there, each counted as if it were not asked for itself.
pub(in crate::gallery) async fn facets(
    db: &Db,
    scope: Scope,
    filter: &Filter,
) -> Result<Facets, ServerError> {
    let looks = looks(db).await?;
    let allowed = allowed(filter, &looks);
    let limit = most_counted(filter);

    // Everything but months, in one pass in the order of its index.
    let mut builder = QueryBuilder::new("select look_id, favourite, rating, count(*) from (");
    builder.push("select look_id, favourite, rating");
    let Some(order) = matches(&mut builder, scope, filter, None) else {
        return Ok(Facets::default());
    };
    in_month(&mut builder, filter);
    limited(&mut builder, order, limit);
    builder.push(") group by look_id, favourite, rating");
    let rows: Vec<(i64, bool, u8, i64)> = builder.build_query_as().fetch_all(db.read()).await?;

    let mut builder = QueryBuilder::new("select month, count(*) from (select month");
    matches(&mut builder, scope, filter, None);
    let timeless = Filter {
        month: None,
        ..filter.clone()
    };
    narrow(&mut builder, &timeless, allowed.as_ref());
    limited(&mut builder, order, limit);
    builder.push(") group by month order by month desc");
    let months: Vec<(i64, i64)> = builder.build_query_as().fetch_all(db.read()).await?;

    let counted: i64 = rows.iter().map(|row| row.3).sum();
    let mut facets = tally(filter, &looks, &rows);
    facets.more = limit.is_some_and(|limit| counted > limit);
    facets.months = months
        .into_iter()
        .map(|(month, count)| FacetValue {
            value: format!("{:04}-{:02}", month / 100, month % 100),
            count: u64::try_from(count).unwrap_or(0),
        })
        .collect();
    Ok(facets)
}

fn limited(builder: &mut QueryBuilder<Sqlite>, order: &str, limit: Option<i64>) {
    if let Some(limit) = limit {
        builder.push(format_args!(" order by {order} desc limit "));
        builder.push_bind(limit + 1);
    }
}

/// Counts from looks to values.
fn tally(filter: &Filter, looks: &[Look], rows: &[(i64, bool, u8, i64)]) -> Facets {
    let mut facets = Facets::default();
    let mut at_least = [0_u64; 6];
    for (look_id, favourite, rating, count) in rows {
        // A look that another connection added since the looks were read is counted next time.
        let Some(look) = looks.iter().find(|look| look.id == *look_id) else {
            continue;
        };
        let count = u64::try_from(*count).unwrap_or(0);
        let is_marked = !filter.favourite || *favourite;
        let is_rated = *rating >= filter.rating;
        let (model, size) = (has_model(filter, look), has_size(filter, look));
        let (scheduler, device) = (has_scheduler(filter, look), has_device(filter, look));
        if is_marked && is_rated {
            if size && scheduler && device {
                add(&mut facets.models, look.model.clone(), count);
            }
            if model && scheduler && device {
                let value = format!("{}x{}", look.width, look.height);
                add(&mut facets.sizes, value, count);
            }
            if model && size && device {
                add(&mut facets.schedulers, look.scheduler.clone(), count);
            }
            if model && size && scheduler {
                add(&mut facets.devices, look.device.clone(), count);
            }
        }
        if model && size && scheduler && device {
            if is_rated && *favourite {
                facets.favourites += count;
            }
            if is_marked {
                let given = usize::from(*rating).min(5);
                for stars in &mut at_least[1..=given] {
                    *stars += count;
                }
            }
        }
    }
    for values in [
        &mut facets.models,
        &mut facets.sizes,
        &mut facets.schedulers,
        &mut facets.devices,
    ] {
        values.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    }
    facets.ratings = (1..=5)
        .rev()
        .filter(|stars| at_least[*stars] > 0)
        .map(|stars| FacetValue {
            value: stars.to_string(),
            count: at_least[stars],
        })
        .collect();
    facets
}

fn add(values: &mut Vec<FacetValue>, value: String, count: u64) {
    match values.iter_mut().find(|known| known.value == value) {
        Some(known) => known.count += count,
        None => values.push(FacetValue { value, count }),
    }
}
