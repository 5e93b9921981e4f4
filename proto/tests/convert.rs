//! What crosses the wire comes out as it went in, and what no agent would say is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use groundswell_proto::limits::MAX_FIGURES_BYTES;
use groundswell_proto::{WireError, v1};
use groundswell_scenario::Share;
use groundswell_stats::{Closer, Closing, Delta, ErrorClass, Outcome, Phases, Recorder, Room, Sample, StepId};
use proptest::prelude::*;
use prost::Message;

const STEPS: usize = 3;

/// Operations of any outcome, as an agent records them in one window.
fn deltas() -> impl Strategy<Value = Delta> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Ok),
        1 => "[ab]".prop_map(|class| Outcome::Error(ErrorClass::new(class))),
        1 => Just(Outcome::Timeout),
        1 => Just(Outcome::Aborted),
        1 => Just(Outcome::Unsent(ErrorClass::new("no_free_port"))),
    ];
    let operation = (0..STEPS as u32, 0_u64..10_000_000, 0_u64..5_000, prop::option::of(0_u64..900), outcome);
    (prop::collection::vec(operation, 0..60), 0_u64..1 << 40, 0_u64..2_000_000).prop_map(
        |(operations, from_us, length)| {
            let mut recorder = Recorder::new(STEPS);
            for (step, service_us, send_lag_us, connect_us, outcome) in operations {
                let step = StepId(step);
                recorder.scheduled(step, 2);
                recorder.issued(step);
                recorder.shed(step, "max_in_flight", 1);
                recorder.messages_received(step, 3, 30);
                count_sockets(&mut recorder, step, service_us);
                recorder.finished(&Sample {
                    step,
                    response_us: service_us + send_lag_us,
                    service_us,
                    send_lag_us,
                    phases: Phases {
                        connect_us,
                        dns_us: connect_us,
                        body_us: Some(service_us / 4),
                        ..Phases::default()
                    },
                    outcome,
                    follow_ups: 1,
                    bytes_sent: 1,
                    bytes_received: 2,
                });
            }
            let rooms = recorder.seal_rooms();
            Delta { from_us, to_us: from_us + length, steps: recorder.seal(), rooms }
        },
    )
}

/// A socket that was lost and came back, in a room of its own.
fn count_sockets(recorder: &mut Recorder, step: StepId, at_us: u64) {
    let sockets = recorder.sockets(step);
    sockets.opened += 2;
    *sockets.closed.entry(Closing { by: Closer::Target, code: 1006 }).or_default() += 1;
    sockets.pings_sent += 3;
    let recovery = sockets.recoveries.entry(step.0).or_default();
    recovery.lost += 1;
    recovery.failed.insert(ErrorClass::new("connection_refused"), 4);
    recovery.handshake.record(at_us);
    let room = recorder.room(&format!("room {}", step.0));
    // In ascending order, because that is how they come out.
    room.published_at_us.push(room.published_at_us.last().map_or(at_us, |last| last + at_us));
    room.joined_at_us.push(room.joined_at_us.last().map_or(1, |last| last + 1));
    room.counts.delivered += 1;
    room.latency.entry(at_us as u32 % 3).or_default().record(at_us);
}

/// One operation that ended well.
fn one() -> v1::Figures {
    let mut recorder = Recorder::new(1);
    recorder.scheduled(StepId(0), 1);
    recorder.issued(StepId(0));
    recorder.finished(&Sample {
        step: StepId(0),
        response_us: 1_000,
        service_us: 900,
        send_lag_us: 100,
        phases: Phases::default(),
        outcome: Outcome::Ok,
        follow_ups: 0,
        bytes_sent: 0,
        bytes_received: 0,
    });
    v1::Figures::from(&Delta { from_us: 0, to_us: 1_000_000, steps: recorder.seal(), ..Delta::default() })
}

/// What is said of a delta after something was done to it.
fn refused(spoil: impl FnOnce(&mut v1::Figures)) -> WireError {
    let mut delta = one();
    assert!(Delta::try_from(&delta).is_ok());
    spoil(&mut delta);
    Delta::try_from(&delta).unwrap_err()
}

fn counters(delta: &mut v1::Figures) -> &mut v1::Counters {
    delta.steps[0].counters.as_mut().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_delta_survives_the_wire(delta in deltas()) {
        let packed = v1::Figures::from(&delta).pack();
        prop_assert_eq!(Delta::try_from(&v1::Figures::unpack(&packed).unwrap()).unwrap(), delta);
    }

    #[test]
    fn a_share_survives_the_wire(index in 0_usize..8, weights in prop::collection::vec(1_u32..9, 8)) {
        let share = Share::weighted(index, &weights).unwrap();
        prop_assert_eq!(Share::try_from(v1::Share::from(&share)).unwrap(), share);
    }
}

#[test]
fn bytes_that_are_no_figures_are_refused() {
    let packed = one().pack();
    for bytes in [&packed[..packed.len() / 2], b"\xff\xff\xff", b""] {
        assert!(matches!(v1::Figures::unpack(bytes), Err(WireError::Packed(_))), "{bytes:?}");
    }
}

/// A kilobyte that unpacks to a thousand times as much, and so on: it ends at the limit.
#[test]
fn a_bomb_is_refused() {
    let words = [("x".repeat(MAX_FIGURES_BYTES / 2), 1)].into();
    let mut figures = one();
    counters(&mut figures).shed = words;
    counters(&mut figures).not_generated = [("y".repeat(MAX_FIGURES_BYTES / 2), 1)].into();
    let packed = figures.pack();
    assert!(packed.len() < MAX_FIGURES_BYTES / 100);
    let error = v1::Figures::unpack(&packed).unwrap_err();
    assert!(error.to_string().contains("more than"), "{error}");
}

#[test]
fn a_window_that_ends_before_it_begins_is_refused() {
    let error = refused(|delta| delta.from_run_us = 2_000_000);
    assert!(matches!(error, WireError::Window { from_us: 2_000_000, to_us: 1_000_000 }), "{error}");
}

#[test]
fn figures_that_are_missing_or_there_twice_are_refused() {
    assert!(matches!(refused(|delta| delta.steps[0].counters = None), WireError::Missing(_)));
    assert!(matches!(refused(|delta| delta.steps.push(delta.steps[0].clone())), WireError::Repeated(0)));
    let twice = refused(|delta| {
        let again = delta.steps[0].series[0].clone();
        delta.steps[0].series.push(again);
    });
    assert!(matches!(twice, WireError::Repeated(0)), "{twice}");
}

#[test]
fn kinds_and_words_that_nobody_knows_are_refused() {
    assert!(matches!(refused(|delta| delta.steps[0].series[0].kind = 99), WireError::UnknownKind { kind: 99, .. }));
    assert!(matches!(refused(|delta| delta.steps[0].series[0].kind = 0), WireError::UnknownKind { kind: 0, .. }));
    for word in ["", "Not Plain", "\u{1b}[2J", &"x".repeat(65)] {
        let error = refused(|delta| counters(delta).shed.extend([(word.to_owned(), 1)]));
        assert!(matches!(error, WireError::Word { step: 0, .. }), "{error}");
    }
    let many = refused(|delta| counters(delta).unsent.extend((0..1_001).map(|n| (format!("w{n}"), 1))));
    assert!(matches!(many, WireError::Word { .. }) && many.to_string().len() < 200, "{many}");
}

#[test]
fn counters_that_contradict_their_series_are_refused() {
    let contradictions: [fn(&mut v1::Counters); 4] = [
        |counters| counters.ok = 2,
        |counters| counters.timeout = 1,
        |counters| counters.errors = u64::MAX,
        |counters| counters.errors_by_class.extend([("status_500".to_owned(), 1)]),
    ];
    for contradict in contradictions {
        let error = refused(|delta| contradict(counters(delta)));
        assert!(matches!(error, WireError::Counters { step: 0, .. }), "{error}");
    }
    let more_connects = refused(|delta| {
        let connect = v1::Series { kind: v1::LatencyKind::Connect.into(), ..delta.steps[0].series[0].clone() };
        delta.steps[0].series.push(connect);
        delta.steps[0].series.retain(|series| series.kind != v1::LatencyKind::SendLag as i32);
    });
    assert!(matches!(more_connects, WireError::Counters { .. }), "{more_connects}");
}

#[test]
fn rooms_that_contradict_themselves_are_refused() {
    let room = || v1::Room { name: "lobby".into(), published: vec![1, 2], ..v1::Room::default() };
    let wrong: [fn(&mut v1::Room); 4] = [
        |room| room.name = "\u{1b}[2J".into(),
        |room| room.name = "x".repeat(129),
        |room| room.delivered = 1,
        |room| room.published = vec![u64::MAX, 1],
    ];
    for spoil in wrong {
        let error = refused(|delta| {
            let mut room = room();
            spoil(&mut room);
            delta.rooms.push(room);
        });
        assert!(matches!(error, WireError::Room { .. }), "{error}");
    }
    let twice = refused(|delta| delta.rooms.extend([room(), room()]));
    assert!(matches!(twice, WireError::Room { .. }), "{twice}");
    let mut delta = one();
    delta.rooms.push(room());
    let read: &Room = &Delta::try_from(&delta).unwrap().rooms["lobby"];
    assert_eq!(read.published_at_us, [1, 3]);
}

#[test]
fn sockets_closed_by_nobody_are_refused() {
    let closed = |by, code| v1::Sockets { closed: vec![v1::Closed { by, code, count: 1 }], ..v1::Sockets::default() };
    for sockets in [closed(0, 1000), closed(9, 1000), closed(1, 65_536)] {
        let error = refused(|delta| delta.steps[0].sockets = Some(sockets));
        assert!(matches!(error, WireError::Counters { .. }), "{error}");
    }
}

#[test]
fn histograms_that_are_none_are_refused() {
    let bytes = refused(|delta| delta.steps[0].series[0].histogram.truncate(7));
    assert!(matches!(bytes, WireError::Series { step: 0, .. }), "{bytes}");
    let sum = refused(|delta| delta.steps[0].series[0].count = 7);
    assert!(matches!(sum, WireError::Series { step: 0, .. }), "{sum}");
}

/// Whichever bit of a delta flips on the way, its hash does not fit any more.
#[test]
fn a_flipped_bit_shows() {
    let delta = v1::Delta::new("run".into(), 7, 3, vec![1, 2, 3].into());
    assert!(delta.checked_hash().is_ok());
    let bytes = delta.encode_to_vec();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // Bits that make it no message at all are refused before; unknown fields are no content.
        if let Ok(read) = v1::Delta::decode(&flipped[..])
            && read != delta
        {
            assert!(read.checked_hash().is_err(), "bit {bit}");
        }
    }
}
