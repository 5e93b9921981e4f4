//! The way through a flow with its repetitions and groups. A loop with a stack that the user keeps, because a future that
//! contains itself would have to be allocated for each part of each iteration.

use groundswell_scenario::flow::Step;

/// Where an iteration is in one list of steps.
#[derive(Debug, Clone, Copy)]
struct Place {
    next: usize,
    /// How often the list is walked after this time.
    again: u32,
}

/// The lists of steps that an iteration is in, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Place>);

impl Places {
    /// Forgets the last iteration.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins a flow; what was begun and has not ended goes on after it. Returns what [`Places::next`] wants to know.
    pub(super) fn enter(&mut self) -> usize {
        let outer = self.0.len();
        self.0.push(Place { next: 0, again: 0 });
        outer
    }

    /// The next step of a flow that is no part of it but something to do; none at its end.
    pub(super) fn next<'a>(&mut self, outer: usize, flow: &'a [Step]) -> Option<&'a Step> {
        loop {
            let (here, around) = self.0.get_mut(outer..)?.split_last_mut()?;
            let within = |steps: &'a [Step], place: &Place| Some(part(steps.get(place.next.checked_sub(1)?)?)?.1);
            let steps = around.iter().try_fold(flow, within)?;
            let Some(step) = steps.get(here.next) else {
                match here.again.checked_sub(1) {
                    Some(again) => *here = Place { next: 0, again },
                    None => drop(self.0.pop()),
                }
                continue;
            };
            here.next += 1;
            match part(step) {
                None => return Some(step),
                Some((0, _)) => {}
                Some((times, _)) => self.0.push(Place { next: 0, again: times - 1 }),
            }
        }
    }
}

/// The steps that a step consists of, and how often they are walked.
fn part(step: &Step) -> Option<(u32, &[Step])> {
    match step {
        Step::Repeat { times, flow } => Some((*times, flow)),
        Step::Group { flow, .. } => Some((1, flow)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use groundswell_scenario::flow::Think;

    use super::*;

    fn step(number: u64) -> Step {
        Step::Think(Think::Fixed(Duration::from_secs(number)))
    }

    fn walked(places: &mut Places, outer: usize, flow: &[Step], most: usize) -> Vec<u64> {
        std::iter::from_fn(|| places.next(outer, flow))
            .map(|step| match step {
                Step::Think(Think::Fixed(number)) => number.as_secs(),
                other => panic!("{other:?} is no step to do"),
            })
            .take(most)
            .collect()
    }

    #[test]
    fn every_step_comes_as_often_as_it_is_repeated_and_in_order() {
        let inner =
            Step::Repeat { times: 2, flow: vec![step(2), Step::Group { name: "g".into(), flow: vec![step(3)] }] };
        let nothing = [Step::Repeat { times: 0, flow: vec![step(9)] }, Step::Repeat { times: 3, flow: Vec::new() }];
        let mut flow = vec![step(1), Step::Repeat { times: 2, flow: vec![inner, step(4)] }];
        flow.extend(nothing);
        flow.push(step(5));
        let all = [1, 2, 3, 2, 3, 4, 2, 3, 2, 3, 4, 5];
        let mut places = Places::default();
        let outer = places.enter();
        assert_eq!(walked(&mut places, outer, &flow, usize::MAX), all);
        // One that was left in the middle.
        let outer = places.enter();
        assert_eq!(walked(&mut places, outer, &flow, 4), all[..4]);
        // A flow within a step of it, as a socket has.
        let socket = places.enter();
        assert_eq!(walked(&mut places, socket, &[step(7)], usize::MAX), [7]);
        assert_eq!(walked(&mut places, outer, &flow, usize::MAX), all[4..]);
        let outer = places.enter();
        assert_eq!(walked(&mut places, outer, &flow, 3), all[..3]);
        places.clear();
        let outer = places.enter();
        assert_eq!(walked(&mut places, outer, &flow, usize::MAX), all);
    }
}
