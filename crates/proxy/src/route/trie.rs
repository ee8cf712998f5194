//! A tree of path segments. All its edges are in one hash table, by parent and text: a step costs
//! one look into it, among ten routes as among ten thousand. A lookup visits each node at most once,
//! however the routes overlap.

use std::cmp::Ordering;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use super::pattern::{PathPattern, Segment};

/// The routes of one host.
#[derive(Debug)]
pub(super) struct Trie {
    /// The first is the root.
    nodes: Vec<Node>,
    edges: HashTable<Edge>,
    hasher: DefaultHashBuilder,
}

/// Kept small: of ten thousand, few are in the processor's caches when they are asked for.
#[derive(Debug, Default)]
struct Node {
    /// Edges of text lead on from here.
    leads_on: bool,
    parameter: Option<u32>,
    /// Routes that end here.
    here: SmallVec<[u32; 4]>,
    /// Routes that take everything from here on.
    below: SmallVec<[u32; 4]>,
}

/// A segment that is text.
#[derive(Debug)]
struct Edge {
    from: u32,
    to: u32,
    text: SmallVec<[u8; 22]>,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            edges: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl Trie {
    pub(super) fn insert(&mut self, path: &PathPattern, route: u32) {
        let mut at = 0;
        for segment in &path.segments {
            at = self.child(at, segment);
        }
        let node = &mut self.nodes[at as usize];
        if path.prefix {
            node.below.push(route);
        } else {
            node.here.push(route);
        }
    }

    /// Brings routes that end at the same place into an order.
    pub(super) fn sort_by(&mut self, order: impl Fn(&u32, &u32) -> Ordering) {
        for node in &mut self.nodes {
            node.here.sort_by(&order);
            node.below.sort_by(&order);
        }
    }

    /// Offers the routes that match `path` to `pick`, the closest first, until it takes one.
    pub(super) fn find<T>(
        &self,
        path: &[u8],
        pick: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let path = path.strip_prefix(b"/")?;
        self.descend(0, Some(path), pick)
    }

    /// `rest` is what follows the slash behind this node's segment; none at the path's end.
    fn descend<T>(
        &self,
        at: u32,
        rest: Option<&[u8]>,
        pick: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let node = self.nodes.get(at as usize)?;
        let Some(rest) = rest else {
            let mut ends = node.here.iter().chain(&node.below);
            return ends.find_map(|route| pick(*route));
        };
        let (segment, next) = match memchr::memchr(b'/', rest) {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if node.leads_on
            && let Some(child) = self.step(at, segment)
            && let Some(found) = self.descend(child, next, pick)
        {
            return Some(found);
        }
        // A parameter stands for something: not for the nothing after a final slash.
        if let Some(child) = node.parameter
            && !segment.is_empty()
            && let Some(found) = self.descend(child, next, pick)
        {
            return Some(found);
        }
        node.below.iter().find_map(|route| pick(*route))
    }

    /// Where a text leads to.
    fn step(&self, from: u32, text: &[u8]) -> Option<u32> {
        let edge = self.edges.find(self.hash(from, text), |edge| {
            edge.from == from && *edge.text == *text
        });
        edge.map(|edge| edge.to)
    }

    fn child(&mut self, at: u32, segment: &Segment) -> u32 {
        let new = u32::try_from(self.nodes.len()).expect("a tree has fewer than 2^32 nodes");
        let child = match segment {
            Segment::Parameter => *self.nodes[at as usize].parameter.get_or_insert(new),
            Segment::Text(text) => match self.step(at, text.as_bytes()) {
                Some(known) => known,
                None => {
                    self.add_edge(at, text.as_bytes(), new);
                    new
                }
            },
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    fn add_edge(&mut self, from: u32, text: &[u8], to: u32) {
        let hash = self.hash(from, text);
        let text = SmallVec::from_slice(text);
        let hasher = &self.hasher;
        self.edges
            .insert_unique(hash, Edge { from, to, text }, |edge| {
                hasher.hash_one((edge.from, &*edge.text))
            });
        self.nodes[from as usize].leads_on = true;
    }

    fn hash(&self, from: u32, text: &[u8]) -> u64 {
        self.hasher.hash_one((from, text))
    }
}
