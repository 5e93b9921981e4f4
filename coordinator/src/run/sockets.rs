//! WebSocket connections and broadcasts of a run, from what was merged.

use std::collections::BTreeMap;

use groundswell_scenario::flow::StepKind;
use groundswell_stats::{Closer, Closing, Distribution, Overflow, Recovery, Room, Sockets, StepId, Totals};

use super::Run;
use super::judge::Broadcasts;
use super::member::Member;
use super::report::{class_counts, latency};
use crate::report::{
    BroadcastFigures, ClosingCount, ConnectionFigures, Latency, OpenPoint, RecoveryFigures, meaning_of_close,
};

/// A figure stands where the clocks' error is at most this part of it.
const TRUSTED_PART: f64 = 0.1;

impl Run {
    /// A row for each WebSocket step; its levels and its warm-up together, because connections last over both.
    pub(super) fn connection_rows(&self) -> Result<Vec<ConnectionFigures>, Overflow> {
        let mut rows = Vec::new();
        for scenario in 0..self.plan.scenarios.len() {
            let is_socket = |index: &usize| {
                let step = &self.plan.steps[*index];
                step.scenario == scenario && step.kind == StepKind::Websocket
            };
            let mut by_name: Vec<(&str, Vec<StepId>)> = Vec::new();
            for index in (0..self.plan.steps.len()).filter(is_socket) {
                let (name, id) =
                    (self.plan.steps[index].name.as_str(), StepId(u32::try_from(index).unwrap_or(u32::MAX)));
                match by_name.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, steps)) => steps.push(id),
                    None => by_name.push((name, vec![id])),
                }
            }
            for (name, steps) in by_name {
                rows.push(self.connections(&self.plan.scenarios[scenario].name, name, &steps)?);
            }
        }
        Ok(rows)
    }

    fn connections(&self, scenario: &str, step: &str, steps: &[StepId]) -> Result<ConnectionFigures, Overflow> {
        let sockets = self.totals.sockets(steps.iter().copied())?;
        let open = self.open_over_time(steps);
        Ok(ConnectionFigures {
            scenario: scenario.to_owned(),
            step: step.to_owned(),
            opened: sockets.opened,
            closed: sockets.closed_in_all(),
            most_open: open.iter().map(|point| point.open).max().unwrap_or(0),
            closings: closings(&sockets),
            pings_sent: sockets.pings_sent,
            pongs_received: sockets.pongs_received,
            pings_received: sockets.pings_received,
            unread: sockets.unread,
            messages_sent: sockets.traffic.messages_sent,
            messages_received: sockets.traffic.messages_received,
            frames_sent: sockets.traffic.frames_sent,
            frames_received: sockets.traffic.frames_received,
            wire_bytes_sent: sockets.traffic.bytes_sent,
            wire_bytes_received: sockets.traffic.bytes_received,
            recoveries: sockets.recoveries.iter().map(recovery).collect::<Result<_, _>>()?,
            open,
        })
    }

    fn open_over_time(&self, steps: &[StepId]) -> Vec<OpenPoint> {
        let mut changes: BTreeMap<u64, i128> = BTreeMap::new();
        for point in self.timeline.points().filter(|point| steps.contains(&point.step)) {
            let end = point.from_s + point.length_s;
            *changes.entry(end).or_default() += i128::from(point.opened) - i128::from(point.closed);
        }
        let mut open = 0_i128;
        let point = |(end, change): (u64, i128)| {
            open += change;
            OpenPoint { t_s: end as f64, open: u64::try_from(open).unwrap_or(0) }
        };
        changes.into_iter().map(point).collect()
    }

    /// All rooms together, for thresholds.
    pub(super) fn all_broadcasts(&self) -> Result<Broadcasts, Overflow> {
        Broadcasts::of(whole_rooms(&self.totals, &self.members)?.values())
    }

    pub(super) fn broadcast_rows(&self) -> Result<Vec<BroadcastFigures>, Overflow> {
        let rooms = whole_rooms(&self.totals, &self.members)?;
        let rooms = rooms.iter().filter(|(_, room)| !room.published_at_us.is_empty() || !room.joined_at_us.is_empty());
        rooms.map(|(name, room)| self.broadcast(name, room)).collect()
    }

    fn broadcast(&self, name: &str, room: &Room) -> Result<BroadcastFigures, Overflow> {
        let bound_us = self.greatest_bound_us(name);
        let (counts, expected) = (room.counts, room.expected());
        let in_doubt = room.in_doubt(bound_us);
        let any_lost = self.members.iter().any(|member| member.lost.is_some());
        let latency = latency(&Distribution::of(room.latency.values())?);
        Ok(BroadcastFigures {
            room: name.to_owned(),
            published: room.published_at_us.len() as u64,
            subscribers: room.most_subscribers(),
            expected,
            delivered: counts.delivered,
            missing: expected.saturating_sub(counts.delivered),
            while_disconnected: room.while_disconnected(),
            duplicated: counts.duplicated,
            out_of_order: counts.out_of_order,
            outside: counts.outside,
            misdirected: counts.misdirected,
            in_doubt,
            exact: !any_lost && counts.cut_off == 0 && counts.delivered <= expected,
            delivery_ms: trusted(latency, bound_us as f64 / 1e3),
            clock_bound_ms: bound_us as f64 / 1e3,
        })
    }

    /// The greatest error between the clocks of two agents that a message of this room went between.
    fn greatest_bound_us(&self, room: &str) -> u64 {
        let Some(by_agent) = self.totals.rooms().get(room) else { return 0 };
        let bound = |source: u32, receiver: usize| {
            let publisher = self.members.iter().position(|member| member.source == Some(source));
            let of = |member: Option<&Member>| member.map_or(0, |member| member.clock_bound_us);
            // One process has one clock.
            if publisher.is_some_and(|publisher| self.members[publisher].source == self.members[receiver].source) {
                return 0;
            }
            of(publisher.map(|index| &self.members[index])) + of(self.members.get(receiver))
        };
        let pairs = by_agent.iter().flat_map(|(agent, room)| room.latency.keys().map(move |source| (*source, *agent)));
        pairs.map(|(source, receiver)| bound(source, receiver)).max().unwrap_or(0)
    }
}

/// Each room as all agents saw it. The subscriptions of a lost agent end with its last word.
fn whole_rooms(totals: &Totals, members: &[Member]) -> Result<BTreeMap<String, Room>, Overflow> {
    let mut rooms = BTreeMap::new();
    for (name, by_agent) in totals.rooms() {
        let mut whole = Room::default();
        for (agent, room) in by_agent {
            whole.add(room)?;
            if let Some(member) = members.get(*agent).filter(|member| member.lost.is_some()) {
                let open = room.joined_at_us.len().saturating_sub(room.left_at_us.len());
                let down = room.down_at_us.len().saturating_sub(room.up_at_us.len());
                whole.left_at_us.extend(std::iter::repeat_n(member.merged_to_us, open));
                whole.up_at_us.extend(std::iter::repeat_n(member.merged_to_us, down));
            }
        }
        rooms.insert(name.clone(), whole);
    }
    Ok(rooms)
}

fn closings(sockets: &Sockets) -> Vec<ClosingCount> {
    let closing = |(closing, count): (&Closing, &u64)| ClosingCount {
        by: match closing.by {
            Closer::Agent => "agent",
            Closer::Target => "target",
            Closer::Drop => "drop",
        }
        .to_owned(),
        code: closing.code,
        meaning: short(&meaning_of_close(closing.code)),
        count: *count,
    };
    let mut closings: Vec<ClosingCount> = sockets.closed.iter().map(closing).collect();
    closings.sort_by_key(|closing| std::cmp::Reverse(closing.count));
    closings
}

/// The meaning without what to do about it.
fn short(meaning: &str) -> String {
    meaning.split([':', ';']).next().unwrap_or_default().to_owned()
}

fn recovery((cycle, recovery): (&u32, &Recovery)) -> Result<RecoveryFigures, Overflow> {
    Ok(RecoveryFigures {
        cycle: *cycle,
        lost: recovery.lost,
        restored: recovery.restored,
        given_up: recovery.given_up,
        failed_attempts: class_counts(recovery.failed.iter().map(|(class, count)| (class.as_str(), *count))),
        handshake_ms: latency(&Distribution::of([&recovery.handshake])?),
        outage_ms: latency(&Distribution::of([&recovery.outage])?),
    })
}

/// Leaves out what the clocks' error could have made.
fn trusted(latency: Latency, bound_ms: f64) -> Latency {
    let keep = |figure: Option<f64>| figure.filter(|figure| bound_ms <= TRUSTED_PART * figure);
    Latency {
        min: keep(latency.min),
        mean: keep(latency.mean),
        p50: keep(latency.p50),
        p90: keep(latency.p90),
        p95: keep(latency.p95),
        p99: keep(latency.p99),
        p999: keep(latency.p999),
        p9999: keep(latency.p9999),
        max: keep(latency.max),
        ..latency
    }
}
