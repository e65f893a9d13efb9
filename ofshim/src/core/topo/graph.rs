//! The switches and the directed links between them that may carry traffic.
//!
//! Switches have dense numbers here, so that a tree is one vector. A number is used again once its switch is gone.

use std::collections::BTreeMap;

use openflow::{DatapathId, PortNo};

use super::place::Place;

/// The number of a switch in a [`Graph`].
pub type Node = u32;

/// What a link costs; at least 1.
pub type Cost = u32;

/// One end of a link as its other end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The switch at the other end.
    pub node: Node,
    /// The port on this side.
    pub port: PortNo,
    /// The port on the other side.
    pub peer: PortNo,
    /// The cost in the direction of the link.
    pub cost: Cost,
}

/// The switches and their links.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    numbers: BTreeMap<DatapathId, Node>,
    ids: Vec<DatapathId>,
    free: Vec<Node>,
    /// Links that leave a switch, ordered by the other end's datapath id, then by ports.
    out: Vec<Vec<Edge>>,
    /// Links that reach a switch, in the same order.
    into: Vec<Vec<Edge>>,
}

impl Graph {
    /// Adds a switch, if it is not there; its number.
    pub fn add_switch(&mut self, dpid: DatapathId) -> Node {
        if let Some(node) = self.numbers.get(&dpid) {
            return *node;
        }
        let node = self.free.pop().unwrap_or_else(|| {
            self.ids.push(dpid);
            self.out.push(Vec::new());
            self.into.push(Vec::new());
            Node::try_from(self.ids.len() - 1).unwrap_or(Node::MAX)
        });
        if let Some(id) = self.ids.get_mut(node as usize) {
            *id = dpid;
        }
        self.numbers.insert(dpid, node);
        node
    }

    /// Takes out a switch that has no links; its number.
    pub fn remove_switch(&mut self, dpid: DatapathId) -> Option<Node> {
        let node = self.numbers.get(&dpid).copied()?;
        if !self.out(node).is_empty() || !self.incoming(node).is_empty() {
            return None;
        }
        self.numbers.remove(&dpid);
        self.free.push(node);
        Some(node)
    }

    /// The number of a switch.
    #[must_use]
    pub fn node(&self, dpid: DatapathId) -> Option<Node> {
        self.numbers.get(&dpid).copied()
    }

    /// The switch with a number.
    #[must_use]
    pub fn dpid(&self, node: Node) -> DatapathId {
        self.ids.get(node as usize).copied().unwrap_or_default()
    }

    /// The switches by datapath id.
    pub fn switches(&self) -> impl Iterator<Item = (DatapathId, Node)> {
        self.numbers.iter().map(|(dpid, node)| (*dpid, *node))
    }

    /// One more than the highest number in use so far.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ids.len()
    }

    /// The links that leave a switch.
    #[must_use]
    pub fn out(&self, node: Node) -> &[Edge] {
        self.out.get(node as usize).map_or(&[], Vec::as_slice)
    }

    /// The links that reach a switch.
    #[must_use]
    pub fn incoming(&self, node: Node) -> &[Edge] {
        self.into.get(node as usize).map_or(&[], Vec::as_slice)
    }

    /// Adds a link, or changes the cost of one that is there; the cost before.
    pub fn set_link(&mut self, from: Place, to: Place, cost: Cost) -> Option<Cost> {
        let (u, v) = (self.add_switch(from.dpid), self.add_switch(to.dpid));
        let cost = cost.max(1);
        let before = self.insert(u, Edge { node: v, port: from.port, peer: to.port, cost }, true);
        self.insert(v, Edge { node: u, port: to.port, peer: from.port, cost }, false);
        before
    }

    /// Takes out a link; its cost.
    pub fn remove_link(&mut self, from: Place, to: Place) -> Option<Cost> {
        let (u, v) = (self.node(from.dpid)?, self.node(to.dpid)?);
        let out = self.out.get_mut(u as usize)?;
        let at = out.iter().position(|e| (e.node, e.port, e.peer) == (v, from.port, to.port))?;
        let cost = out.remove(at).cost;
        let into = self.into.get_mut(v as usize)?;
        into.retain(|e| (e.node, e.port, e.peer) != (u, to.port, from.port));
        Some(cost)
    }

    fn insert(&mut self, node: Node, edge: Edge, out: bool) -> Option<Cost> {
        let ids = &self.ids;
        let order = |e: &Edge| (ids.get(e.node as usize).copied().unwrap_or_default(), e.port, e.peer);
        let lists = if out { &mut self.out } else { &mut self.into };
        let list = lists.get_mut(node as usize)?;
        match list.binary_search_by_key(&order(&edge), order) {
            Ok(at) => list.get_mut(at).map(|old| std::mem::replace(old, edge).cost),
            Err(at) => {
                list.insert(at, edge);
                None
            }
        }
    }
}
