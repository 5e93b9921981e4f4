//! WebSockets and rooms between the wire and the figures.

use std::collections::BTreeMap;

use groundswell_stats::{Closer, Closing, ErrorClass, Recovery, Room, RoomCounts, Series, Sockets, Traffic};

use crate::convert::{checked_words, series_inward, series_outward};
use crate::limits::MAX_ROOMS;
use crate::{WireError, v1};

pub(crate) fn sockets_outward(sockets: &Sockets) -> v1::Sockets {
    let closed = |(closing, count): (&Closing, &u64)| v1::Closed {
        by: match closing.by {
            Closer::Agent => v1::Closer::Agent,
            Closer::Target => v1::Closer::Target,
            Closer::Drop => v1::Closer::Drop,
        }
        .into(),
        code: u32::from(closing.code),
        count: *count,
    };
    let recovery = |(cycle, recovery): (&u32, &Recovery)| v1::Recovery {
        cycle: *cycle,
        lost: recovery.lost,
        restored: recovery.restored,
        given_up: recovery.given_up,
        failed: recovery.failed.iter().map(|(class, count)| (class.as_str().to_owned(), *count)).collect(),
        handshake: some_series(&recovery.handshake),
        outage: some_series(&recovery.outage),
    };
    v1::Sockets {
        opened: sockets.opened,
        closed: sockets.closed.iter().map(closed).collect(),
        pings_sent: sockets.pings_sent,
        pongs_received: sockets.pongs_received,
        pings_received: sockets.pings_received,
        unread: sockets.unread,
        traffic: Some(traffic_outward(sockets.traffic)),
        recoveries: sockets.recoveries.iter().map(recovery).collect(),
    }
}

pub(crate) fn sockets_inward(step: u32, wire: &v1::Sockets) -> Result<Sockets, WireError> {
    let wrong = |what: &str| WireError::Counters { step, what: what.to_owned() };
    let mut closed = BTreeMap::new();
    for entry in &wire.closed {
        let by = match v1::Closer::try_from(entry.by) {
            Ok(v1::Closer::Agent) => Closer::Agent,
            Ok(v1::Closer::Target) => Closer::Target,
            Ok(v1::Closer::Drop) => Closer::Drop,
            Ok(v1::Closer::Unspecified) | Err(_) => return Err(wrong("a socket was closed by nobody")),
        };
        let code = u16::try_from(entry.code).map_err(|_| wrong("a close code has more than 16 bits"))?;
        if closed.insert(Closing { by, code }, entry.count).is_some() {
            return Err(WireError::Repeated(step));
        }
    }
    let mut recoveries = BTreeMap::new();
    for entry in &wire.recoveries {
        let series = |series: &Option<v1::Series>| match series {
            Some(series) => series_inward(series).map_err(|source| WireError::Series { step, source }),
            None => Ok(Series::default()),
        };
        let failed = checked_words(step, &entry.failed)?.map(|(class, count)| (ErrorClass::new(class), count));
        let recovery = Recovery {
            lost: entry.lost,
            restored: entry.restored,
            given_up: entry.given_up,
            failed: failed.collect(),
            handshake: series(&entry.handshake)?,
            outage: series(&entry.outage)?,
        };
        if recoveries.insert(entry.cycle, recovery).is_some() {
            return Err(WireError::Repeated(step));
        }
    }
    Ok(Sockets {
        opened: wire.opened,
        closed,
        pings_sent: wire.pings_sent,
        pongs_received: wire.pongs_received,
        pings_received: wire.pings_received,
        unread: wire.unread,
        traffic: wire.traffic.as_ref().map(traffic_inward).unwrap_or_default(),
        recoveries,
    })
}

fn traffic_outward(traffic: Traffic) -> v1::Traffic {
    let Traffic { messages_sent, messages_received, frames_sent, frames_received, bytes_sent, bytes_received } =
        traffic;
    v1::Traffic { messages_sent, messages_received, frames_sent, frames_received, bytes_sent, bytes_received }
}

fn traffic_inward(wire: &v1::Traffic) -> Traffic {
    let v1::Traffic { messages_sent, messages_received, frames_sent, frames_received, bytes_sent, bytes_received } =
        *wire;
    Traffic { messages_sent, messages_received, frames_sent, frames_received, bytes_sent, bytes_received }
}

pub(crate) fn room_outward(name: &str, room: &Room) -> v1::Room {
    let counts = room.counts;
    let delivery = |(source, series): (&u32, &Series)| v1::Delivery { source: *source, latency: some_series(series) };
    v1::Room {
        name: name.to_owned(),
        published: differences(&room.published_at_us),
        joined: differences(&room.joined_at_us),
        left: differences(&room.left_at_us),
        down: differences(&room.down_at_us),
        up: differences(&room.up_at_us),
        own: counts.own,
        delivered: counts.delivered,
        duplicated: counts.duplicated,
        out_of_order: counts.out_of_order,
        outside: counts.outside,
        misdirected: counts.misdirected,
        cut_off: counts.cut_off,
        deliveries: room.latency.iter().map(delivery).collect(),
    }
}

pub(crate) fn rooms_inward(wire: &[v1::Room]) -> Result<BTreeMap<String, Room>, WireError> {
    let wrong = |name: &str, what| WireError::Room { room: name.chars().take(Room::MAX_NAME_BYTES).collect(), what };
    let mut rooms = BTreeMap::new();
    for room in wire {
        if wire.len() > MAX_ROOMS || room.name.len() > Room::MAX_NAME_BYTES || room.name.chars().any(char::is_control) {
            return Err(wrong(&room.name, "there are too many, or this is no name of a room"));
        }
        let mut latency = BTreeMap::new();
        let mut samples = 0_u64;
        for delivery in &room.deliveries {
            let Some(series) = &delivery.latency else { continue };
            let series = series_inward(series).map_err(|source| WireError::Series { step: 0, source })?;
            samples = samples.saturating_add(series.count);
            if latency.insert(delivery.source, series).is_some() {
                return Err(wrong(&room.name, "a source is told twice"));
            }
        }
        if samples != room.delivered {
            return Err(wrong(&room.name, "deliveries and their latencies differ in number"));
        }
        let times = |differences: &[u64]| times(differences).ok_or_else(|| wrong(&room.name, "a time overflows"));
        let figures = Room {
            published_at_us: times(&room.published)?,
            joined_at_us: times(&room.joined)?,
            left_at_us: times(&room.left)?,
            down_at_us: times(&room.down)?,
            up_at_us: times(&room.up)?,
            counts: RoomCounts {
                own: room.own,
                delivered: room.delivered,
                duplicated: room.duplicated,
                out_of_order: room.out_of_order,
                outside: room.outside,
                misdirected: room.misdirected,
                cut_off: room.cut_off,
            },
            latency,
        };
        if rooms.insert(room.name.clone(), figures).is_some() {
            return Err(wrong(&room.name, "it is told twice"));
        }
    }
    Ok(rooms)
}

fn some_series(series: &Series) -> Option<v1::Series> {
    (!series.is_empty()).then(|| series_outward(None, series))
}

/// Ascending times as steps: small numbers, which the wire writes short.
fn differences(times: &[u64]) -> Vec<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let mut last = 0;
    times.iter().map(|time| time - std::mem::replace(&mut last, *time)).collect()
}

fn times(differences: &[u64]) -> Option<Vec<u64>> {
    let mut time = 0_u64;
    differences
        .iter()
        .map(|difference| {
            time = time.checked_add(*difference)?;
            Some(time)
        })
        .collect()
}
