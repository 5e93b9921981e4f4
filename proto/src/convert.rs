//! Between wire and domain: `From` outward, `TryFrom` inward.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use groundswell_scenario::share::InvalidShare;
use groundswell_scenario::{Assignment, PlanSource, Share};
use groundswell_stats::{Counters, Delta, ErrorClass, Kind, Series, StepDelta, StepId, codec};

use groundswell_stats::codec::{Declared, InvalidSeries};
use prost::Message as _;

use crate::sockets::{room_outward, rooms_inward, sockets_inward, sockets_outward};
use crate::v1;

/// Most different words (error classes, reasons) in one step of one delta.
const MAX_WORDS: usize = 1_000;
/// Longest word.
const MAX_WORD_BYTES: usize = 64;

/// What is wrong with a message from outside.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Bytes that can't be unpacked.
    #[error("its figures can't be read: {0}")]
    Packed(String),
    /// A delta that is not what was sent.
    #[error("delta {seq} was changed on the way (its hash differs)")]
    Corrupted {
        /// The number it came with.
        seq: u64,
    },
    /// A part that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A share that is none.
    #[error("{0}")]
    Share(#[from] InvalidShare),
    /// A latency kind that this version does not know.
    #[error("step {step}: latency kind {kind} is unknown")]
    UnknownKind {
        /// Step it came with.
        step: u32,
        /// Its number.
        kind: i32,
    },
    /// The same step or kind twice in one delta.
    #[error("step {0}: its figures come twice")]
    Repeated(u32),
    /// A histogram that does not hold what it declares.
    #[error("step {step}: {source}")]
    Series {
        /// Step it came with.
        step: u32,
        /// What is wrong.
        source: InvalidSeries,
    },
    /// A room whose figures contradict each other.
    #[error("room {room:?}: {what}")]
    Room {
        /// Its name, cut to its limit.
        room: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A window that ends before it begins.
    #[error("the window ends at {to_us} µs, before it begins at {from_us} µs")]
    Window {
        /// Start.
        from_us: u64,
        /// End.
        to_us: u64,
    },
    /// A word that is too long, not plain, or one too many.
    #[error("step {step}: {word:?} is not a plain word of at most {MAX_WORD_BYTES} bytes, or there are too many")]
    Word {
        /// Step it came with.
        step: u32,
        /// The word, cut to its limit.
        word: String,
    },
    /// Counters that contradict each other.
    #[error("step {step}: {what}")]
    Counters {
        /// Step it came with.
        step: u32,
        /// The contradiction.
        what: String,
    },
}

impl From<&PlanSource> for v1::Plan {
    fn from(source: &PlanSource) -> Self {
        let readable = |(path, content): (&String, &Result<Vec<u8>, String>)| {
            Some(v1::DataFile { path: path.clone(), content: content.as_ref().ok()?.clone() })
        };
        v1::Plan {
            name: source.name.clone(),
            text: source.text.clone(),
            files: source.files.iter().filter_map(readable).collect(),
            hash: String::new(),
            search_level: source.search_level,
        }
    }
}

impl From<v1::Plan> for PlanSource {
    fn from(plan: v1::Plan) -> Self {
        let files = plan.files.into_iter().map(|file| (file.path, Ok(file.content))).collect();
        PlanSource { name: plan.name, text: plan.text, files, search_level: plan.search_level }
    }
}

/// A plan as a coordinator keeps it in its store: the bytes of [`v1::Plan`].
pub fn plan_to_store(source: &PlanSource, hash: &str) -> Vec<u8> {
    v1::Plan { hash: hash.to_owned(), ..v1::Plan::from(source) }.encode_to_vec()
}

/// Reads what [`plan_to_store`] wrote.
///
/// # Errors
/// When the bytes are no plan.
pub fn stored_plan(bytes: &[u8]) -> Result<PlanSource, prost::DecodeError> {
    v1::Plan::decode(bytes).map(PlanSource::from)
}

impl From<&Share> for v1::Share {
    fn from(share: &Share) -> Self {
        v1::Share { slots: share.slots().to_vec(), of: share.of() }
    }
}

impl TryFrom<v1::Share> for Share {
    type Error = InvalidShare;

    fn try_from(share: v1::Share) -> Result<Self, InvalidShare> {
        Share::try_from((share.slots, share.of))
    }
}

impl From<&Assignment> for v1::Assignment {
    fn from(assignment: &Assignment) -> Self {
        let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        v1::Assignment {
            generation: assignment.generation,
            share: Some((&assignment.share).into()),
            from_run_us: micros(assignment.from),
            until_run_us: assignment.until.map(micros),
        }
    }
}

impl TryFrom<v1::Assignment> for Assignment {
    type Error = WireError;

    fn try_from(assignment: v1::Assignment) -> Result<Self, WireError> {
        let share = assignment.share.ok_or(WireError::Missing("the share of an assignment"))?;
        Ok(Assignment {
            generation: assignment.generation,
            share: Share::try_from(share)?,
            from: Duration::from_micros(assignment.from_run_us),
            until: assignment.until_run_us.map(Duration::from_micros),
        })
    }
}

impl From<&Delta> for v1::Figures {
    /// What was measured; the agent's own state is the session's to add.
    fn from(delta: &Delta) -> Self {
        v1::Figures {
            from_run_us: delta.from_us,
            to_run_us: delta.to_us,
            steps: delta.steps.iter().map(|(step, figures)| step_outward(*step, figures)).collect(),
            rooms: delta.rooms.iter().map(|(name, room)| room_outward(name, room)).collect(),
            ..v1::Figures::default()
        }
    }
}

fn step_outward(step: StepId, figures: &StepDelta) -> v1::StepDelta {
    let series = Kind::ALL.into_iter().zip(&figures.series).filter(|(_, series)| series.count > 0);
    v1::StepDelta {
        step: step.0,
        counters: Some(v1::Counters::from(&figures.counters)),
        series: series.map(|(kind, series)| series_outward(Some(kind), series)).collect(),
        sockets: (!figures.sockets.is_empty()).then(|| sockets_outward(&figures.sockets)),
    }
}

pub(crate) fn series_outward(kind: Option<Kind>, series: &Series) -> v1::Series {
    v1::Series {
        kind: kind.map_or(v1::LatencyKind::Unspecified, v1::LatencyKind::from).into(),
        histogram: codec::encode(&series.buckets),
        count: series.count,
        sum_us: series.sum_us,
        min_us: series.min_us,
        max_us: series.max_us,
        clamped: series.clamped,
    }
}

impl From<Kind> for v1::LatencyKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::ResponseOk => v1::LatencyKind::ResponseOk,
            Kind::ResponseFailed => v1::LatencyKind::ResponseFailed,
            Kind::Service => v1::LatencyKind::Service,
            Kind::SendLag => v1::LatencyKind::SendLag,
            Kind::Queue => v1::LatencyKind::Queue,
            Kind::Connect => v1::LatencyKind::Connect,
            Kind::Tls => v1::LatencyKind::Tls,
            Kind::FirstByte => v1::LatencyKind::FirstByte,
            Kind::Dns => v1::LatencyKind::Dns,
            Kind::Body => v1::LatencyKind::Body,
        }
    }
}

impl From<&Counters> for v1::Counters {
    fn from(counters: &Counters) -> Self {
        let words = |words: &BTreeMap<Cow<'static, str>, u64>| {
            words.iter().map(|(word, count)| (word.to_string(), *count)).collect()
        };
        let classes = |classes: &BTreeMap<ErrorClass, u64>| {
            classes.iter().map(|(class, count)| (class.as_str().to_owned(), *count)).collect()
        };
        v1::Counters {
            scheduled: counters.scheduled,
            issued: counters.issued,
            ok: counters.ok,
            errors: counters.errors,
            timeout: counters.timeout,
            aborted: counters.aborted,
            errors_by_class: classes(&counters.errors_by_class),
            unsent: classes(&counters.unsent),
            shed: words(&counters.shed),
            not_generated: words(&counters.not_generated),
            follow_ups: counters.follow_ups,
            messages_sent: counters.messages_sent,
            messages_received: counters.messages_received,
            bytes_sent: counters.bytes_sent,
            bytes_received: counters.bytes_received,
        }
    }
}

impl TryFrom<&v1::Figures> for Delta {
    type Error = WireError;

    /// Checks everything that one delta says about itself; whether it fits its run is the coordinator's to decide.
    fn try_from(wire: &v1::Figures) -> Result<Self, WireError> {
        let (from_us, to_us) = (wire.from_run_us, wire.to_run_us);
        if to_us < from_us {
            return Err(WireError::Window { from_us, to_us });
        }
        let mut steps = BTreeMap::new();
        for step in &wire.steps {
            if steps.insert(StepId(step.step), step_inward(step)?).is_some() {
                return Err(WireError::Repeated(step.step));
            }
        }
        Ok(Delta { from_us, to_us, steps, rooms: rooms_inward(&wire.rooms)? })
    }
}

fn step_inward(wire: &v1::StepDelta) -> Result<StepDelta, WireError> {
    let counters = wire.counters.as_ref().ok_or(WireError::Missing("counters of a step"))?;
    let mut figures = StepDelta { counters: counters_inward(wire.step, counters)?, ..StepDelta::default() };
    for series in &wire.series {
        let kind = match v1::LatencyKind::try_from(series.kind) {
            Ok(v1::LatencyKind::ResponseOk) => Kind::ResponseOk,
            Ok(v1::LatencyKind::ResponseFailed) => Kind::ResponseFailed,
            Ok(v1::LatencyKind::Service) => Kind::Service,
            Ok(v1::LatencyKind::SendLag) => Kind::SendLag,
            Ok(v1::LatencyKind::Queue) => Kind::Queue,
            Ok(v1::LatencyKind::Connect) => Kind::Connect,
            Ok(v1::LatencyKind::Tls) => Kind::Tls,
            Ok(v1::LatencyKind::FirstByte) => Kind::FirstByte,
            Ok(v1::LatencyKind::Dns) => Kind::Dns,
            Ok(v1::LatencyKind::Body) => Kind::Body,
            Ok(v1::LatencyKind::Unspecified) | Err(_) => {
                return Err(WireError::UnknownKind { step: wire.step, kind: series.kind });
            }
        };
        let place = &mut figures.series[kind as usize];
        if place.count > 0 {
            return Err(WireError::Repeated(wire.step));
        }
        *place = series_inward(series).map_err(|source| WireError::Series { step: wire.step, source })?;
    }
    if let Some(sockets) = &wire.sockets {
        figures.sockets = sockets_inward(wire.step, sockets)?;
    }
    outcomes_match_series(wire.step, &figures)?;
    Ok(figures)
}

pub(crate) fn series_inward(series: &v1::Series) -> Result<Series, codec::InvalidSeries> {
    let declared = Declared {
        count: series.count,
        sum_us: series.sum_us,
        min_us: series.min_us,
        max_us: series.max_us,
        clamped: series.clamped,
    };
    codec::decode(&series.histogram, &declared)
}

/// Every finished operation has one sample of each kind of latency, and at most one of each of its parts.
fn outcomes_match_series(step: u32, figures: &StepDelta) -> Result<(), WireError> {
    let counters = &figures.counters;
    let failed = counters.errors.checked_add(counters.timeout).and_then(|sum| sum.checked_add(counters.aborted));
    let Some((failed, finished)) = failed.and_then(|failed| Some((failed, failed.checked_add(counters.ok)?))) else {
        return Err(WireError::Counters { step, what: "the counters overflow".to_owned() });
    };
    let wanted = [
        (Kind::ResponseOk, counters.ok),
        (Kind::ResponseFailed, failed),
        (Kind::Service, finished),
        (Kind::SendLag, finished),
    ];
    for (kind, operations) in wanted {
        let samples = figures.series[kind as usize].count;
        if samples != operations {
            let what = format!("{operations} operations ended but {kind:?} has {samples} samples");
            return Err(WireError::Counters { step, what });
        }
    }
    for kind in [Kind::Queue, Kind::Dns, Kind::Connect, Kind::Tls, Kind::FirstByte, Kind::Body] {
        let samples = figures.series[kind as usize].count;
        if samples > finished {
            let what = format!("{finished} operations ended but {kind:?} has {samples} samples");
            return Err(WireError::Counters { step, what });
        }
    }
    let classed: u128 = counters.errors_by_class.values().map(|count| u128::from(*count)).sum();
    if classed != u128::from(counters.errors) {
        let what = format!("{} errors but {classed} by class", counters.errors);
        return Err(WireError::Counters { step, what });
    }
    Ok(())
}

fn counters_inward(step: u32, wire: &v1::Counters) -> Result<Counters, WireError> {
    let mut errors_by_class = BTreeMap::new();
    for (class, count) in checked_words(step, &wire.errors_by_class)? {
        errors_by_class.insert(ErrorClass::new(class), count);
    }
    Ok(Counters {
        scheduled: wire.scheduled,
        issued: wire.issued,
        ok: wire.ok,
        errors: wire.errors,
        timeout: wire.timeout,
        aborted: wire.aborted,
        errors_by_class,
        unsent: checked_words(step, &wire.unsent)?.map(|(class, count)| (ErrorClass::new(class), count)).collect(),
        shed: checked_words(step, &wire.shed)?.map(|(word, count)| (Cow::Owned(word), count)).collect(),
        not_generated: checked_words(step, &wire.not_generated)?
            .map(|(word, count)| (Cow::Owned(word), count))
            .collect(),
        follow_ups: wire.follow_ups,
        messages_sent: wire.messages_sent,
        messages_received: wire.messages_received,
        bytes_sent: wire.bytes_sent,
        bytes_received: wire.bytes_received,
    })
}

pub(crate) fn checked_words(
    step: u32,
    words: &HashMap<String, u64>,
) -> Result<impl Iterator<Item = (String, u64)> + '_, WireError> {
    let plain = |word: &str| {
        !word.is_empty()
            && word.len() <= MAX_WORD_BYTES
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let odd = words.keys().find(|word| !plain(word) || words.len() > MAX_WORDS);
    if let Some(word) = odd {
        return Err(WireError::Word { step, word: word.chars().take(MAX_WORD_BYTES).collect() });
    }
    Ok(words.iter().map(|(word, count)| (word.clone(), *count)))
}
