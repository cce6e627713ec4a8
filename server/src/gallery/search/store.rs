//! Pages and counts of what a query asks for, in SQL. Statements are put together from constant
//! parts; every value is bound.

use sqlx::{FromRow, QueryBuilder, Sqlite};
use std::collections::{HashMap, HashSet};

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
    // Left alone, SQLite counts marks by the index of seeds, row by row of the table itself.
    let index = match filter.seed {
        None => " indexed by image_shown",
        Some(_) => "",
    };
    matches_by(builder, scope, filter, before, index)
}

/// As [`matches`], by an index of the images; an empty one leaves the choice to SQLite.
fn matches_by(
    builder: &mut QueryBuilder<Sqlite>,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
    index: &str,
) -> Option<&'static str> {
    let words = match &filter.words {
        None => None,
        Some(words) => Some(words.expression(scope.owner)?),
    };
    let order = if let Some(words) = words {
        builder.push(format_args!(
            " from image_text cross join image{index} on image.number = image_text.rowid where image_text match "
        ));
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
        builder.push(format_args!(
            " from collection_image c cross join image{index} on image.number = c.image_number where c.collection_id = "
        ));
        builder.push_bind(collection.clone());
        "c.image_number"
    } else {
        builder.push(format_args!(" from image{index} where true"));
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

/// One image of an outline.
pub(in crate::gallery) struct Outlined {
    /// Its place in the order of all images.
    pub number: i64,
    /// Its shape.
    pub width: u32,
    /// Its shape.
    pub height: u32,
}

/// The shapes of the matches before a number, newest first. All of them come as one text: a row for
/// each would take ten times as long.
pub(in crate::gallery) async fn outline(
    db: &Db,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Outlined>, ServerError> {
    let looks = looks(db).await?;
    let allowed = allowed(filter, &looks);
    let mut builder = QueryBuilder::new(
        "select coalesce(group_concat(number || ' ' || look_id), '') from (select number, look_id",
    );
    let Some(order) = matches(&mut builder, scope, filter, before) else {
        return Ok(Vec::new());
    };
    narrow(&mut builder, filter, allowed.as_ref());
    builder.push(format_args!(" order by {order} desc limit "));
    builder.push_bind(i64::from(limit));
    builder.push(")");
    let text: String = builder.build_query_scalar().fetch_one(db.read()).await?;
    let sizes: HashMap<i64, (u32, u32)> = looks
        .iter()
        .map(|look| (look.id, (look.width, look.height)))
        .collect();
    let mut outlined = Vec::new();
    for image in text.split(',').filter(|image| !image.is_empty()) {
        let (number, look) = image
            .split_once(' ')
            .and_then(|(number, look)| Some((number.parse().ok()?, look.parse().ok()?)))
            .ok_or_else(|| ServerError::broken("an image has no number or no look"))?;
        // A look that another connection added since the looks were read is a square for now.
        let (width, height) = sizes.get(&look).copied().unwrap_or((1, 1));
        outlined.push(Outlined {
            number,
            width,
            height,
        });
    }
    // An aggregate promises no order, whatever it is made over.
    if !outlined.is_sorted_by(|a, b| a.number > b.number) {
        outlined.sort_by_key(|image| std::cmp::Reverse(image.number));
    }
    Ok(outlined)
}

/// When images were made, e.g. 202611, by their numbers.
pub(in crate::gallery) async fn months(
    db: &Db,
    numbers: &[i64],
) -> Result<HashMap<i64, u32>, ServerError> {
    let rows: Vec<(i64, u32)> = sqlx::query_as(
        "select number, month from image where number in (select value from json_each(?1))",
    )
    .bind(serde_json::json!(numbers).to_string())
    .fetch_all(db.read())
    .await?;
    Ok(rows.into_iter().collect())
}

/// The ids of the matches before a number, newest first.
pub(in crate::gallery) async fn ids(
    db: &Db,
    scope: Scope,
    filter: &Filter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<ImageId>, ServerError> {
    let allowed = match filter.names_a_look() {
        true => allowed(filter, &looks(db).await?),
        false => None,
    };
    let mut builder = QueryBuilder::new("select image.id");
    let Some(order) = matches(&mut builder, scope, filter, before) else {
        return Ok(Vec::new());
    };
    narrow(&mut builder, filter, allowed.as_ref());
    builder.push(format_args!(" order by {order} desc limit "));
    builder.push_bind(i64::from(limit));
    let ids: Vec<String> = builder.build_query_scalar().fetch_all(db.read()).await?;
    Ok(ids.into_iter().map(ImageId).collect())
}

fn most_counted(filter: &Filter) -> Option<i64> {
    (filter.words.is_some() || filter.collection.is_some()).then_some(MOST_COUNTED)
}

/// How many images look alike and are marked alike: look, favourite, stars, count.
type LookCount = (i64, bool, u8, i64);

/// How often each value of each facet is there, each counted as if it were not asked for itself.
pub(in crate::gallery) async fn facets(
    db: &Db,
    scope: Scope,
    filter: &Filter,
) -> Result<Facets, ServerError> {
    let looks = looks(db).await?;
    let allowed = allowed(filter, &looks);
    let counted = match most_counted(filter) {
        Some(limit) => count_latest(db, scope, filter, allowed.as_ref(), limit).await?,
        None => count_all(db, scope, filter, allowed.as_ref()).await?,
    };
    let Some((rows, months, more)) = counted else {
        return Ok(Facets::default());
    };
    let mut facets = tally(filter, &looks, &rows);
    facets.more = more;
    facets.months = months
        .into_iter()
        .map(|(month, count)| FacetValue {
            value: format!("{:04}-{:02}", month / 100, month % 100),
            count: u64::try_from(count).unwrap_or(0),
        })
        .collect();
    Ok(facets)
}

/// Looks, months newest first, and whether there was more than was counted.
type Counted = Option<(Vec<LookCount>, Vec<(i64, i64)>, bool)>;

/// Counts all images of a user, in two passes that each go along an index in the counts' own order.
async fn count_all(
    db: &Db,
    scope: Scope,
    filter: &Filter,
    allowed: Option<&HashSet<i64>>,
) -> Result<Counted, ServerError> {
    let mut builder = QueryBuilder::new("select look_id, favourite, rating, count(*)");
    if matches_by(&mut builder, scope, filter, None, "").is_none() {
        return Ok(None);
    }
    in_month(&mut builder, filter);
    builder.push(" group by look_id, favourite, rating");
    let rows: Vec<LookCount> = builder.build_query_as().fetch_all(db.read()).await?;

    let mut builder = QueryBuilder::new("select month, count(*)");
    matches_by(&mut builder, scope, filter, None, "");
    let timeless = Filter {
        month: None,
        ..filter.clone()
    };
    narrow(&mut builder, &timeless, allowed);
    builder.push(" group by month order by month desc");
    let months: Vec<(i64, i64)> = builder.build_query_as().fetch_all(db.read()).await?;
    Ok(Some((rows, months, false)))
}

/// Counts the latest images that words or a collection name. They are found once and counted twice:
/// finding them is what takes the time.
async fn count_latest(
    db: &Db,
    scope: Scope,
    filter: &Filter,
    allowed: Option<&HashSet<i64>>,
    limit: i64,
) -> Result<Counted, ServerError> {
    let mut builder =
        QueryBuilder::new("with found as materialized (select look_id, favourite, rating, month");
    let Some(order) = matches(&mut builder, scope, filter, None) else {
        return Ok(None);
    };
    builder.push(format_args!(" order by {order} desc limit "));
    builder.push_bind(limit + 1);
    builder.push(
        ") select 0 as kind, look_id, favourite, rating, count(*) from found as image where true",
    );
    in_month(&mut builder, filter);
    builder.push(
        " group by look_id, favourite, rating \
         union all select 1, month, 0, 0, count(*) from found as image where true",
    );
    let timeless = Filter {
        month: None,
        ..filter.clone()
    };
    narrow(&mut builder, &timeless, allowed);
    builder.push(" group by month union all select 2, 0, 0, 0, count(*) from found");
    let rows: Vec<(i64, i64, bool, u8, i64)> =
        builder.build_query_as().fetch_all(db.read()).await?;
    let (mut looks, mut months, mut more) = (Vec::new(), Vec::new(), false);
    for (kind, what, favourite, rating, count) in rows {
        match kind {
            0 => looks.push((what, favourite, rating, count)),
            1 => months.push((what, count)),
            _ => more = count > limit,
        }
    }
    months.sort_by_key(|(month, _)| std::cmp::Reverse(*month));
    Ok(Some((looks, months, more)))
}

/// Counts from looks to values.
fn tally(filter: &Filter, looks: &[Look], rows: &[LookCount]) -> Facets {
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
