//! Histogram counts that lie close together.

/// Bins of a page.
const BINS: usize = 8;

/// Counts of neighbouring bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Page {
    /// The first bin's number, divided by [`BINS`].
    number: u32,
    counts: [u64; BINS],
}

/// Counts by bin, in pages of which each holds something, ascending. To add to them costs as much as what is added has
/// bins, where a list would be written anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pages(Vec<Page>);

impl Pages {
    /// Whether these counts, ascending, lie so close that pages take no more than twice the room of a list. That is not
    /// given away: where more is added the gaps fill up, and of full pages each takes half of it.
    pub(crate) fn suit(counts: &[(u32, u64)]) -> bool {
        let pages = counts.chunk_by(|left, right| number_of(left.0) == number_of(right.0)).count();
        pages * size_of::<Page>() <= 2 * size_of_val(counts)
    }

    /// Adds counts of a list, ascending, whose sums fit.
    pub(crate) fn add_list(&mut self, counts: &[(u32, u64)]) {
        let (mut at, mut missing) = (0, Vec::new());
        for (bin, count) in counts {
            place(&mut self.0, &mut at, &mut missing, number_of(*bin)).counts[*bin as usize % BINS] += count;
        }
        self.insert(missing);
    }

    /// Adds others whose sums fit.
    pub(crate) fn add(&mut self, other: &Pages) {
        let (mut at, mut missing) = (0, Vec::new());
        for page in &other.0 {
            let known = place(&mut self.0, &mut at, &mut missing, page.number);
            known.counts.iter_mut().zip(page.counts).for_each(|(count, others)| *count += others);
        }
        self.insert(missing);
    }

    /// Takes in pages that were not there, ascending.
    fn insert(&mut self, missing: Vec<Page>) {
        if !missing.is_empty() {
            // Two ascending runs, which is what this sort is quick with.
            self.0.extend(missing);
            self.0.sort_by_key(|page| page.number);
        }
    }

    /// One more in this bin.
    pub(crate) fn count(&mut self, bin: u32) {
        let number = number_of(bin);
        let place = self.0.binary_search_by_key(&number, |page| page.number).unwrap_or_else(|place| {
            self.0.insert(place, Page { number, ..Page::default() });
            place
        });
        self.0[place].counts[bin as usize % BINS] += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bin in which the counts, added up from the first, reach so many; none where they do not.
    pub(crate) fn bin_at(&self, rank: u64) -> Option<u32> {
        let mut counted = 0;
        for page in &self.0 {
            let here: u64 = page.counts.iter().sum();
            if counted + here >= rank {
                let first = page.number * BINS as u32;
                return (first..).zip(page.counts).find_map(|(bin, count)| {
                    counted += count;
                    (counted >= rank).then_some(bin)
                });
            }
            counted += here;
        }
        None
    }

    /// (bin, count) of each bin that holds something, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, u64)> + '_ {
        self.0.iter().flat_map(|page| {
            let first = page.number * BINS as u32;
            (first..first + BINS as u32).zip(page.counts).filter(|(_, count)| *count > 0)
        })
    }
}

const fn number_of(bin: u32) -> u32 {
    bin / BINS as u32
}

/// The page of this number: one of those that are there, from the place on at which the last one was found, or else the
/// last of those that are missing, made if it must be. Numbers never descend from call to call.
#[inline]
fn place<'p>(there: &'p mut [Page], at: &mut usize, missing: &'p mut Vec<Page>, number: u32) -> &'p mut Page {
    while there.get(*at).is_some_and(|page| page.number < number) {
        *at += 1;
    }
    if let Some(page) = there.get_mut(*at).filter(|page| page.number == number) {
        return page;
    }
    if missing.last().is_none_or(|page| page.number != number) {
        missing.push(Page { number, ..Page::default() });
    }
    let last = missing.len() - 1;
    &mut missing[last]
}
