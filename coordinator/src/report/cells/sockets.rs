//! Cells of the tables of connections and broadcasts.

use super::{latency, plain};
use crate::report::format::{count, millis};
use crate::report::{BroadcastFigures, ConnectionFigures};

pub(in crate::report) const CONNECTION_HEADER: [&str; 6] = ["step", "opened", "most open", "closed", "pings", "pongs"];
pub(in crate::report) const TRAFFIC_HEADER: [&str; 7] = [
    "\nstep",
    "messages\nsent",
    "messages\nreceived",
    "frames\nsent",
    "frames\nreceived",
    "bytes\nsent",
    "bytes\nreceived",
];
pub(in crate::report) const CLOSING_HEADER: [&str; 5] = ["step", "closed by", "meaning", "code", "count"];
pub(in crate::report) const RECOVERY_HEADER: [&str; 8] =
    ["\nstep", "\ncause", "\nlost", "\nrestored", "\ngiven up", "failed\nattempts", "handshake\np99", "outage\nmax"];
pub(in crate::report) const BROADCAST_HEADER: [&str; 7] =
    ["\nroom", "\npublished", "\nexpected", "\ndelivered", "\nmissing", "\nduplicated", "out of\norder"];
pub(in crate::report) const DELIVERY_HEADER: [&str; 7] =
    ["\nroom", "most\nsubscribers", "\np50", "\np95", "\np99", "\nmax", "clock\nbound"];

pub(in crate::report) fn connection_cells(row: &ConnectionFigures) -> Vec<String> {
    let figures = [row.opened, row.most_open, row.closed, row.pings_sent, row.pongs_received].map(count);
    std::iter::once(plain(&row.step)).chain(figures).collect()
}

pub(in crate::report) fn traffic_cells(row: &ConnectionFigures) -> Vec<String> {
    let messages = [row.messages_sent, row.messages_received];
    let on_the_wire = [row.frames_sent, row.frames_received, row.wire_bytes_sent, row.wire_bytes_received];
    std::iter::once(plain(&row.step)).chain(messages.into_iter().chain(on_the_wire).map(count)).collect()
}

/// How the connections of a step ended.
pub(in crate::report) fn closing_cells(row: &ConnectionFigures) -> impl Iterator<Item = Vec<String>> + '_ {
    row.closings.iter().map(|closing| {
        let texts = [&row.step, &closing.by, &closing.meaning].map(|text| plain(text));
        texts.into_iter().chain([closing.code.to_string(), count(closing.count)]).collect()
    })
}

pub(in crate::report) fn recovery_cells(row: &ConnectionFigures) -> impl Iterator<Item = Vec<String>> + '_ {
    row.recoveries.iter().map(|recovery| {
        let failed: u64 = recovery.failed_attempts.iter().map(|class| class.count).sum();
        let cause = if recovery.cycle == 0 { "lost".to_owned() } else { format!("drop {}", recovery.cycle) };
        let mut cells = vec![plain(&row.step), cause];
        cells.extend([recovery.lost, recovery.restored, recovery.given_up, failed].map(count));
        cells.extend([recovery.handshake_ms.p99, recovery.outage_ms.max].map(latency));
        cells
    })
}

pub(in crate::report) fn broadcast_cells(row: &BroadcastFigures) -> Vec<String> {
    let counts = [row.published, row.expected, row.delivered, row.missing, row.duplicated, row.out_of_order].map(count);
    std::iter::once(plain(&row.room)).chain(counts).collect()
}

/// Of rooms with deliveries.
pub(in crate::report) fn delivery_cells(row: &BroadcastFigures) -> Option<Vec<String>> {
    let delivery = &row.delivery_ms;
    let times = [delivery.p50, delivery.p95, delivery.p99, delivery.max].map(latency);
    let bound = format!("±{}", millis(row.clock_bound_ms));
    let cells = [plain(&row.room), count(row.subscribers)].into_iter().chain(times).chain([bound]);
    (delivery.count > 0).then(|| cells.collect())
}

/// What has to be known to read the row.
pub(in crate::report) fn broadcast_notes(row: &BroadcastFigures) -> Vec<String> {
    let room = plain(&row.room);
    let mut notes = Vec::new();
    if row.while_disconnected > 0 {
        let count = count(row.while_disconnected);
        notes.push(format!("{room}: {count} of the expected were published while their subscriber had no connection"));
    }
    if row.misdirected > 0 {
        notes.push(format!("{room}: messages of other rooms that arrived here: {}", count(row.misdirected)));
    }
    if row.in_doubt > 0 {
        let bound = millis(row.clock_bound_ms);
        notes.push(format!(
            "{room}: {} were published so near to a joining or leaving (±{bound}) that the clocks can't tell whether \
             they were to arrive",
            count(row.in_doubt)
        ));
    }
    if row.delivery_ms.count > 0 && row.delivery_ms.p50.is_none() {
        let bound = millis(row.clock_bound_ms);
        notes.push(format!("{room}: the agents' clocks agree to ±{bound} only, which is too much for the times"));
    }
    if !row.exact {
        notes.push(format!(
            "{room}: not exact, because an agent was lost, or sockets were cut off before late messages had come"
        ));
    }
    notes
}
