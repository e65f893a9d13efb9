//! Whose the flow entries of a bridge are, as far as `ovs-ofctl dump-flows` tells.

use openflow::Cookie;

use crate::core::cookie::{OWNER_MASK, Purpose, cookie, is_ours, read};

/// One flow entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its cookie.
    pub cookie: u64,
    /// Its table.
    pub table: u8,
    /// Whether it takes what no other entry of its table takes.
    pub is_miss: bool,
}

/// The priority of an entry for which none is printed (ovs-ofctl(8)).
const DEFAULT_PRIORITY: u32 = 32_768;

/// Reads what `ovs-ofctl dump-flows` prints; lines that are no entries are left out.
#[must_use]
pub fn parse(dump: &str) -> Vec<Entry> {
    dump.lines().filter_map(entry).collect()
}

fn entry(line: &str) -> Option<Entry> {
    let (head, _) = line.split_once("actions=")?;
    let words = || head.split([' ', ',']).filter(|word| !word.is_empty());
    let value = |name: &str| words().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let cookie = u64::from_str_radix(value("cookie")?.strip_prefix("0x")?, 16).ok()?;
    let table = value("table").and_then(|table| table.parse().ok()).unwrap_or(0);
    let priority = value("priority").and_then(|priority| priority.parse().ok()).unwrap_or(DEFAULT_PRIORITY);
    // What is matched stands in one word with the priority, behind a comma.
    let last = head.trim_end().rsplit(' ').next().unwrap_or_default();
    let matches_all = last.starts_with("priority=") && !last.contains(',');
    Some(Entry { cookie, table, is_miss: priority == 0 && matches_all })
}

/// Entries in words: how many for which purpose.
#[must_use]
pub fn ours(entries: &[Entry]) -> Option<String> {
    let mine: Vec<&Entry> = entries.iter().filter(|entry| is_ours(Cookie(entry.cookie))).collect();
    if mine.is_empty() {
        return None;
    }
    let purposes = [
        Purpose::TableMiss,
        Purpose::Forward,
        Purpose::Transit,
        Purpose::Hold,
        Purpose::Route,
        Purpose::Ahead,
        Purpose::Steer,
        Purpose::Balance,
        Purpose::Standing,
        Purpose::Learned,
    ];
    let mut words = Vec::new();
    for purpose in purposes {
        let has = |entry: &&&Entry| read(Cookie(entry.cookie)).is_some_and(|(its, _)| its == purpose);
        let count = mine.iter().filter(has).count();
        if count > 0 {
            words.push(format!("{count} {}", purpose.word()));
        }
    }
    let unknown = mine.iter().filter(|entry| read(Cookie(entry.cookie)).is_none()).count();
    if unknown > 0 {
        words.push(format!("{unknown} of another version of ofshim"));
    }
    Some(words.join(", "))
}

/// The most cookies of others that are named.
const MAX_NAMED: usize = 4;

/// The entries of others in words: how many with which cookie.
#[must_use]
pub fn others(entries: &[Entry]) -> Option<String> {
    let mut cookies = std::collections::BTreeMap::<u64, usize>::new();
    for entry in entries.iter().filter(|entry| !is_ours(Cookie(entry.cookie))) {
        *cookies.entry(entry.cookie).or_default() += 1;
    }
    if cookies.is_empty() {
        return None;
    }
    let named = cookies.iter().take(MAX_NAMED);
    let mut words: Vec<String> =
        named.map(|(cookie, count)| format!("{count} with cookie {cookie:#x}")).collect();
    if cookies.len() > MAX_NAMED {
        words.push(format!("{} more cookies", cookies.len() - MAX_NAMED));
    }
    Some(words.join(", "))
}

/// The cookie and mask of all entries of ours, as `ovs-ofctl del-flows` takes them.
#[must_use]
pub fn our_cookies() -> String {
    let owner = cookie(Purpose::TableMiss, crate::core::cookie::Sequence::default()).0 & OWNER_MASK;
    format!("cookie={owner:#x}/{OWNER_MASK:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read() {
        let dump = "OFPST_FLOW reply (OF1.3) (xid=0x2):\n \
            cookie=0x6f66736801000000, duration=1.2s, table=0, n_packets=0, n_bytes=0, send_flow_rem priority=0 actions=goto_table:1\n \
            cookie=0x1234, duration=1.2s, table=2, n_packets=0, n_bytes=0, priority=5,udp,tp_dst=9 actions=drop\n \
            cookie=0x0, duration=3s, table=0, n_packets=1, n_bytes=2, arp actions=NORMAL\n \
            cookie=0x0, duration=3s, table=0, n_packets=1, n_bytes=2, idle_age=4, priority=0 actions=NORMAL\n";
        let entries = parse(dump);
        let seen: Vec<_> = entries.iter().map(|entry| (entry.cookie, entry.table, entry.is_miss)).collect();
        assert_eq!(seen, [(0x6f66_7368_0100_0000, 0, true), (0x1234, 2, false), (0, 0, false), (0, 0, true)]);
        assert_eq!(ours(&entries).unwrap(), "1 table-miss");
        assert_eq!(others(&entries).unwrap(), "2 with cookie 0x0, 1 with cookie 0x1234");
        assert_eq!(our_cookies(), "cookie=0x6f66736800000000/0xffffffff00000000");
        assert_eq!((ours(&[]), others(&[])), (None, None));
    }
}
