//! Where each image of the wall goes: the arithmetic of the style sheet's flexible rows, so that the
//! first images stay where the server's page put them, and those out of sight need not be there.

/// The wall's measures in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// How wide it is.
    pub width: f64,
    /// How high rows are before they are stretched.
    pub row: f64,
    /// Between images.
    pub gap: f64,
    /// How many times higher a row may become at most.
    pub stretch: f64,
}

/// Images side by side, all equally high.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// The first image.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// From the wall's top.
    pub top: f64,
    /// How high it is.
    pub height: f64,
}

/// Where one image goes, in pixels of the wall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spot {
    /// From the left.
    pub left: f64,
    /// From the top.
    pub top: f64,
    /// How wide.
    pub width: f64,
    /// How high.
    pub height: f64,
}

/// All rows of images of these aspect ratios (width by height), from top to bottom.
pub fn rows(ratios: impl IntoIterator<Item = f64>, measures: Measures) -> Vec<Row> {
    let Measures {
        width,
        row,
        gap,
        stretch,
    } = measures;
    let mut rows: Vec<Row> = Vec::new();
    if !(width > 0.0 && row > 0.0) {
        return rows;
    }
    let (mut top, mut first, mut count, mut sum) = (0.0, 0, 0_usize, 0.0);
    let mut finish = |first: usize, count: usize, sum: f64, is_last: bool| {
        let stretched = (width - gap * (count - 1) as f64) / sum;
        // The last row keeps its size, unless it is too wide as it is.
        let height = if is_last {
            row.min(stretched)
        } else {
            stretched.min(row * stretch)
        };
        rows.push(Row {
            first,
            count,
            top,
            height,
        });
        top += height + gap;
    };
    for ratio in ratios {
        if count > 0 && (sum + ratio) * row + gap * count as f64 > width {
            finish(first, count, sum, false);
            first += count;
            (count, sum) = (0, 0.0);
        }
        count += 1;
        sum += ratio;
    }
    if count > 0 {
        finish(first, count, sum, true);
    }
    rows
}

/// How high all of them are.
pub fn height(rows: &[Row]) -> f64 {
    rows.last().map_or(0.0, |row| row.top + row.height)
}

/// The rows between two heights: from the first one to before the last one.
pub fn between(rows: &[Row], from: f64, to: f64) -> (usize, usize) {
    let first = rows.partition_point(|row| row.top + row.height < from);
    let last = rows.partition_point(|row| row.top <= to);
    (first.min(last), last)
}

/// The row that an image is in.
pub fn row_of(rows: &[Row], at: usize) -> Option<usize> {
    let row = rows.partition_point(|row| row.first <= at).checked_sub(1)?;
    (at < rows[row].first + rows[row].count).then_some(row)
}

/// Where an image goes.
pub fn spot(
    rows: &[Row],
    ratio: impl Fn(usize) -> f64,
    measures: Measures,
    at: usize,
) -> Option<Spot> {
    let row = rows[row_of(rows, at)?];
    let left = (row.first..at)
        .map(|before| ratio(before) * row.height + measures.gap)
        .sum();
    Some(Spot {
        left,
        top: row.top,
        width: ratio(at) * row.height,
        height: row.height,
    })
}

/// The image so many rows below (or above, negative) another: the one whose middle is nearest.
pub fn beyond(
    rows: &[Row],
    ratio: impl Fn(usize) -> f64 + Copy,
    measures: Measures,
    at: usize,
    by: isize,
) -> Option<usize> {
    let middle = |at| spot(rows, ratio, measures, at).map(|spot| spot.left + spot.width / 2.0);
    let (here, row) = (middle(at)?, row_of(rows, at)?);
    let last = rows.len().saturating_sub(1);
    let wanted = row.saturating_add_signed(by).min(last);
    if wanted == row {
        return None;
    }
    let there = rows[wanted];
    let distance = |at: usize| middle(at).map_or(f64::INFINITY, |there| (there - here).abs());
    (there.first..there.first + there.count).min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURES: Measures = Measures {
        width: 1000.0,
        row: 200.0,
        gap: 10.0,
        stretch: 1.7,
    };

    #[test]
    fn full_rows_fill_the_wall_and_the_last_one_keeps_its_size() {
        // Four of 200 and three gaps fit; a fifth would need 1040.
        let rows = rows([1.0; 6], MEASURES);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].first, rows[0].count), (0, 4));
        assert!((rows[0].height - 242.5).abs() < 1e-9);
        assert_eq!(
            (rows[1].first, rows[1].count, rows[1].height),
            (4, 2, 200.0)
        );
        assert!((rows[1].top - 252.5).abs() < 1e-9);
        assert!((height(&rows) - 452.5).abs() < 1e-9);
        let spot = spot(&rows, |_| 1.0, MEASURES, 3).unwrap();
        assert!((spot.left + spot.width - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn an_image_wider_than_the_wall_shrinks_and_a_narrow_one_is_not_stretched_forever() {
        assert_eq!(rows([10.0], MEASURES)[0].height, 100.0);
        let narrow = rows([0.5, 10.0], MEASURES);
        assert_eq!((narrow[0].count, narrow[0].height), (1, 340.0));
    }

    #[test]
    fn what_is_in_sight_is_found_among_many() {
        let rows = rows(std::iter::repeat_n(1.0, 100_000), MEASURES);
        assert_eq!(rows.len(), 25_000);
        let (first, last) = between(&rows, 1000.0, 2000.0);
        assert!(rows[first].top + rows[first].height >= 1000.0);
        assert!(first == 0 || rows[first - 1].top + rows[first - 1].height < 1000.0);
        assert!(rows[last - 1].top <= 2000.0 && rows[last].top > 2000.0);
        assert_eq!(between(&rows, -500.0, -1.0), (0, 0));
        assert_eq!(between(&rows, 1e12, 2e12), (25_000, 25_000));
        assert_eq!(between(&[], 0.0, 1.0), (0, 0));
        assert_eq!(row_of(&rows, 99_999), Some(24_999));
        assert_eq!(row_of(&rows, 100_000), None);
        assert_eq!(row_of(&[], 0), None);
    }

    #[test]
    fn the_image_below_is_the_one_whose_middle_is_nearest() {
        // Four squares, then two wide ones, then one.
        let ratios = [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0];
        let rows = rows(ratios, MEASURES);
        let go = |at, by| beyond(&rows, |at| ratios[at], MEASURES, at, by);
        assert_eq!(
            [go(0, 1), go(1, 1), go(2, 1), go(3, 1)],
            [Some(4), Some(4), Some(5), Some(5)]
        );
        assert_eq!(go(5, -1), Some(2));
        assert_eq!((go(0, -1), go(0, 99), go(6, 1)), (None, Some(6), None));
    }

    #[test]
    fn a_wall_without_width_has_no_rows() {
        let nowhere = Measures {
            width: 0.0,
            ..MEASURES
        };
        assert!(rows([1.0; 3], nowhere).is_empty());
    }
}
