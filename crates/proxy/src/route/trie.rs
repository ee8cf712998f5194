//! A tree of path segments. The children of a node are sorted by a hash of their text, so a step costs
//! a binary search in one piece of memory, and one look at a text; and a lookup visits each node at
//! most once however the routes overlap.

use std::cmp::Ordering;
use std::hash::Hasher as _;

use super::pattern::{PathPattern, Segment};

/// The routes of one host.
#[derive(Debug)]
pub(super) struct Trie {
    /// The first is the root; children always follow their parents.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    text: Vec<Child>,
    parameter: Option<usize>,
    /// Routes that end here.
    here: Vec<u32>,
    /// Routes that take everything from here on.
    below: Vec<u32>,
}

/// A segment that is text.
#[derive(Debug)]
struct Child {
    hash: u64,
    text: Box<[u8]>,
    node: usize,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }
}

impl Trie {
    pub(super) fn insert(&mut self, path: &PathPattern, route: u32) {
        let mut at = 0;
        for segment in &path.segments {
            at = self.child(at, segment);
        }
        let node = &mut self.nodes[at];
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
        at: usize,
        rest: Option<&[u8]>,
        pick: &mut impl FnMut(u32) -> Option<T>,
    ) -> Option<T> {
        let node = self.nodes.get(at)?;
        let Some(rest) = rest else {
            let mut ends = node.here.iter().chain(&node.below);
            return ends.find_map(|route| pick(*route));
        };
        let (segment, next) = match memchr::memchr(b'/', rest) {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if let Some(child) = node.text(segment)
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

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match segment {
            Segment::Parameter => *node.parameter.get_or_insert(new),
            Segment::Text(text) => {
                let text = text.as_bytes();
                let hash = hash(text);
                match node.search(hash, text) {
                    Ok(found) => node.text[found].node,
                    Err(place) => {
                        let text = text.into();
                        let child = Child {
                            hash,
                            text,
                            node: new,
                        };
                        node.text.insert(place, child);
                        new
                    }
                }
            }
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }
}

impl Node {
    fn text(&self, segment: &[u8]) -> Option<usize> {
        let place = match &self.text[..] {
            [] => return None,
            // Not worth a hash.
            [only] => return (*only.text == *segment).then_some(only.node),
            _ => self.search(hash(segment), segment).ok()?,
        };
        Some(self.text[place].node)
    }

    fn search(&self, hash: u64, text: &[u8]) -> Result<usize, usize> {
        self.text
            .binary_search_by(|own| own.hash.cmp(&hash).then_with(|| (*own.text).cmp(text)))
    }
}

/// Any will do: the texts are the operator's, and equal hashes are told apart by them.
fn hash(text: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(text);
    hasher.finish()
}
