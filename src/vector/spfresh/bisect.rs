//! Cuts vectors in two by 2-means, and in many by doing so again and again.

use crate::vector::kernel::kernels;
use crate::vector::parallel;

const ROUNDS: usize = 8;
/// The smaller half has at least one in so many.
const LEAST: usize = 4;

/// Cuts `rows`, which are numbers of vectors, in two halves. REQUIRES: there are two.
pub(super) fn halves<'a>(
    rows: &[usize],
    vector: impl Fn(usize) -> &'a [f32],
) -> (Vec<usize>, Vec<usize>) {
    let l2 = kernels().l2;
    let start = mean(rows.iter().map(|row| vector(*row)));
    let farthest = |from: &[f32]| {
        let far = rows.iter().map(|row| (l2(from, vector(*row)), *row));
        far.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))).map_or(0, |(_, row)| row)
    };
    let one = vector(farthest(&start)).to_vec();
    let two = vector(farthest(&one)).to_vec();
    let mut centers = [one, two];
    // How much nearer to the first center than to the second each is.
    let mut leans: Vec<(f32, usize)> = Vec::new();
    for _ in 0..ROUNDS {
        let before = leans.clone();
        leans = rows
            .iter()
            .map(|row| (l2(&centers[0], vector(*row)) - l2(&centers[1], vector(*row)), *row))
            .collect();
        if leans == before {
            break;
        }
        for (side, center) in centers.iter_mut().enumerate() {
            let own = leans.iter().filter(|(lean, _)| (*lean > 0.0) == (side == 1));
            if own.clone().next().is_some() {
                *center = mean(own.map(|(_, row)| vector(*row)));
            }
        }
    }
    leans.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let least = (rows.len() / LEAST).max(1);
    let at = leans.partition_point(|(lean, _)| *lean <= 0.0).clamp(least, rows.len() - least);
    let rows: Vec<usize> = leans.into_iter().map(|(_, row)| row).collect();
    let (one, two) = rows.split_at(at);
    (one.to_vec(), two.to_vec())
}

/// The mean of vectors. REQUIRES: there is one.
pub(super) fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sums: Vec<f64> = Vec::new();
    let mut count = 0u32;
    for vector in vectors {
        sums.resize(vector.len(), 0.0);
        sums.iter_mut().zip(vector).for_each(|(sum, x)| *sum += f64::from(*x));
        count += 1;
    }
    sums.iter().map(|sum| (sum / f64::from(count)) as f32).collect()
}

/// Cuts `count` vectors into groups of at most `most`, on up to `threads` threads.
pub(super) fn groups<'a>(
    count: usize,
    most: usize,
    vector: impl Fn(usize) -> &'a [f32] + Sync,
    threads: usize,
) -> Vec<Vec<usize>> {
    let mut done = Vec::new();
    let mut ahead: Vec<Vec<usize>> = vec![(0..count).collect()];
    while !ahead.is_empty() {
        let cut = parallel::map(threads, ahead.len(), |i| match ahead[i].len() > most {
            true => {
                let (one, two) = halves(&ahead[i], &vector);
                vec![one, two]
            }
            false => vec![ahead[i].clone()],
        });
        ahead.clear();
        for group in cut.into_iter().flatten().filter(|group| !group.is_empty()) {
            match group.len() > most {
                true => ahead.push(group),
                false => done.push(group),
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Rng;

    #[test]
    fn two_clouds_are_told_apart_and_equal_vectors_are_cut_anyway() {
        let mut rng = Rng::new(3);
        let rows: Vec<Vec<f32>> = (0..60)
            .map(|i| {
                let cloud = if i % 3 == 0 { 900.0 } else { 0.0 };
                (0..5).map(|_| rng.below(100) as f32 + cloud).collect()
            })
            .collect();
        let all: Vec<usize> = (0..60).collect();
        let (one, two) = halves(&all, |row| &rows[row]);
        assert_eq!(one.len().min(two.len()), 20);
        assert!(one.iter().all(|row| (row % 3 == 0) == (one[0] % 3 == 0)));
        let same = [7.0f32; 5];
        let (one, two) = halves(&all, |_| &same);
        assert!(one.len() >= 7 && two.len() >= 7 && one.len() + two.len() == 60);
    }

    #[test]
    fn groups_are_no_larger_than_asked_for() {
        let mut rng = Rng::new(4);
        let rows: Vec<[f32; 3]> = (0..500).map(|_| [0; 3].map(|_| rng.below(50) as f32)).collect();
        for most in [1, 7, 500] {
            let mut groups = groups(rows.len(), most, |row| &rows[row], 2);
            assert!(groups.iter().all(|group| (1..=most).contains(&group.len())));
            let mut all: Vec<usize> = groups.drain(..).flatten().collect();
            all.sort_unstable();
            assert_eq!(all, (0..500).collect::<Vec<_>>());
        }
    }
}
