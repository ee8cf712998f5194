//! Whether a new schema of a topic breaks who relies on another one.
//!
//! Containment of one JSON Schema in another cannot be decided in general. So this is one-sided: if
//! nothing is found, every document that is valid by the one is valid by the other; this is what a
//! deploy stands on. Something may be found that breaks nothing: then it could not be decided, and
//! says so. References, also recursive ones, are followed; a document is finite, so what is assumed of
//! its parts while it is proven of the whole holds. Where alternatives stand in the way, they are gone
//! through one by one; what then is still open is asked of the canonical forms of the crate
//! `jsonschema`, which know more of `oneOf` and `not`.

use std::collections::HashSet;

use jsonschema::canonical::{self, CanonicalSchema, Containment};
use jsonschema::{CanonicalizationError, Draft, PatternOptions};
use serde_json::{Map, Value};

use super::Schema;
use super::facts::{Facts, Origin, member};
use super::kinds::Kinds;
use super::refer;
use super::simple::{self, Answer};

/// Comparisons of two schemas, after which the rest is undecided. Real ones need some hundred.
const STEPS_MAX: usize = 20_000;

/// Comparisons within each other.
const DEPTH_MAX: usize = 200;

/// How many breaks of one part are gathered.
const FOUND_MAX: usize = 50;

/// Keywords that this module does not look into: they are met by the same keywords, with the same
/// values. Each with what belongs to it.
const OPAQUE: [(&str, &[&str], Kinds); 10] = [
    ("oneOf", &[], Kinds::ALL),
    ("not", &[], Kinds::ALL),
    ("if", &["then", "else"], Kinds::ALL),
    ("contains", &["minContains", "maxContains"], Kinds::ARRAY),
    ("propertyNames", &[], Kinds::OBJECT),
    ("dependentSchemas", &[], Kinds::OBJECT),
    ("dependencies", &[], Kinds::OBJECT),
    ("additionalItems", &["items"], Kinds::ARRAY),
    // What these mean depends on all around them; only as parts of equal schemas are they the same.
    ("unevaluatedItems", &["*"], Kinds::ARRAY),
    ("unevaluatedProperties", &["*"], Kinds::OBJECT),
];

/// Something that a reader relies on and that documents may no longer have.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Break {
    /// Where in the documents: a JSON pointer, with `*` for any item or any other property; `/` is
    /// the whole.
    pub pointer: String,
    /// What it is, in a sentence.
    pub reason: String,
}

/// Whether every document that is valid by `written`, as the publisher will write it, is understood
/// by who relies on `read`. None: yes. Otherwise what breaks, or could not be decided.
pub fn breaks(written: &Schema, read: &Schema) -> Vec<Break> {
    if written.draft == read.draft && written.value == read.value {
        return Vec::new();
    }
    let facts = Facts::of(Origin::of(written), &[&written.value]);
    let mut comparison = Comparison {
        read: Origin::of(read),
        steps: 0,
        way: Vec::new(),
    };
    let found = comparison.compare(&read.value, &facts, "", 0);
    let open = found.iter().all(|own| !own.decided);
    if found.is_empty() || (open && matches!(covers(read, written), Ok(Containment::Yes))) {
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let found = found.into_iter().map(|own| Break {
        pointer: super::place(&own.pointer),
        reason: own.reason,
    });
    found.filter(|own| seen.insert(own.clone())).collect()
}

fn covers(read: &Schema, written: &Schema) -> Result<Containment, CanonicalizationError> {
    let canonical = |schema: &Schema| -> Result<CanonicalSchema, CanonicalizationError> {
        let options = canonical::options()
            .with_draft(schema.draft)
            .should_validate_formats(true)
            .with_pattern_options(PatternOptions::regex());
        options.offline().canonicalize(&schema.value)
    };
    canonical(read)?.covers(&canonical(written)?)
}

struct Found {
    pointer: String,
    reason: String,
    /// A reader relies on something, and it is not promised. Otherwise it could not be told.
    decided: bool,
}

struct Comparison<'a> {
    read: Origin<'a>,
    steps: usize,
    way: Vec<Pending<'a>>,
}

/// What is being proven.
struct Pending<'a> {
    wanted: &'a Value,
    facts: Facts<'a>,
    level: usize,
}

impl<'a> Comparison<'a> {
    /// What of `wanted` is not met by all that the facts leave possible. `level` is how deep in the
    /// document this is.
    fn compare(
        &mut self,
        wanted: &'a Value,
        facts: &Facts<'a>,
        at: &str,
        level: usize,
    ) -> Vec<Found> {
        self.steps += 1;
        let members = match wanted {
            _ if facts.impossible => return Vec::new(),
            Value::Bool(true) => return Vec::new(),
            Value::Object(members) if members.is_empty() => return Vec::new(),
            Value::Object(members) => members,
            _ => return vec![closed(at)],
        };
        let mut before = self.way.iter();
        let before = before.find(|own| std::ptr::eq(own.wanted, wanted) && own.facts.is(facts));
        if let Some(before) = before {
            // Of a part of the document it may be assumed: parts are finite.
            return if level > before.level {
                Vec::new()
            } else {
                vec![open(at, "it refers to itself")]
            };
        }
        if self.steps > STEPS_MAX || self.way.len() > DEPTH_MAX {
            return vec![open(at, "the schemas are too large to compare")];
        }
        let equal = |own: &&Map<String, Value>| *own == members;
        if self.means_the_same(wanted, facts) && facts.schemas.iter().any(equal) {
            return Vec::new();
        }
        self.way.push(Pending {
            wanted,
            facts: facts.clone(),
            level,
        });
        let mut found = self.members(members, facts, at, level);
        if !found.is_empty()
            && let Some(ways) = facts.ways()
        {
            let each = ways
                .iter()
                .flat_map(|way| self.compare(wanted, way, at, level));
            let each: Vec<_> = each.collect();
            let clearer =
                each.iter().any(|own| own.decided) && !found.iter().any(|own| own.decided);
            if each.is_empty() || clearer {
                found = each;
            }
        }
        self.way.pop();
        found.truncate(FOUND_MAX);
        found
    }

    fn members(
        &mut self,
        members: &'a Map<String, Value>,
        facts: &Facts<'a>,
        at: &str,
        level: usize,
    ) -> Vec<Found> {
        let mut found = Vec::new();
        let target = members.get("$ref").and_then(Value::as_str);
        if let Some(target) = target.and_then(|target| refer::resolve(self.read.root, target)) {
            found.extend(self.compare(target, facts, at, level));
        }
        if refer::replaces(members, self.read.draft) {
            return found;
        }
        for (keyword, wanted) in members {
            if found.len() < FOUND_MAX {
                let context = Context {
                    members,
                    facts,
                    at,
                    level,
                };
                found.extend(self.keyword(keyword, wanted, context));
            }
        }
        found
    }

    fn keyword(
        &mut self,
        keyword: &str,
        wanted: &'a Value,
        context: Context<'a, '_>,
    ) -> Vec<Found> {
        let Context { facts, at, .. } = context;
        if simple::takes(keyword, wanted, facts) == Some(true) {
            return Vec::new();
        }
        match keyword {
            "required" => missing(wanted, facts, at),
            "properties" => self.properties(wanted, context),
            "additionalProperties" => self.other_properties(wanted, context),
            "patternProperties" => self.pattern_properties(wanted, context),
            "prefixItems" => self.first_items(wanted, context),
            "items" => self.items(wanted, context),
            "allOf" => {
                let parts = wanted.as_array().into_iter().flatten();
                parts
                    .flat_map(|part| self.compare(part, facts, at, context.level))
                    .collect()
            }
            "anyOf" => self.any_of(wanted, context),
            "enum" | "const" => listed(keyword, wanted, facts, at),
            keyword => match simple::meets(
                keyword,
                wanted,
                facts,
                facts.origin.draft == self.read.draft,
            ) {
                Answer::Met => Vec::new(),
                Answer::Broken(reason) => vec![broken(at, reason)],
                Answer::Unknown => self.opaque(keyword, wanted, context),
            },
        }
    }

    fn properties(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, level, ..
        } = context;
        let named = wanted
            .as_object()
            .filter(|_| facts.kinds.meets(Kinds::OBJECT));
        let named = named.into_iter().flatten();
        let each = named.flat_map(|(name, wanted)| {
            self.compare(wanted, &facts.property(name), &below(at, name), level + 1)
        });
        each.collect()
    }

    /// What the publisher may send besides what the reader names.
    fn other_properties(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts,
            at,
            level,
            members,
        } = context;
        if !facts.kinds.meets(Kinds::OBJECT) {
            return Vec::new();
        }
        let has = |keyword, name: &str| {
            member(members, keyword).is_some_and(|own| own.contains_key(name))
        };
        let mut found = Vec::new();
        for name in facts.names() {
            if !has("properties", name) {
                let known = facts.property(name);
                found.extend(self.compare(wanted, &known, &below(at, name), level + 1));
            }
        }
        for (pattern, known) in facts.patterns() {
            if !has("patternProperties", pattern) {
                found.extend(self.compare(wanted, &known, &below(at, "*"), level + 1));
            }
        }
        let known = facts.other_property();
        found.extend(self.compare(wanted, &known, &below(at, "*"), level + 1));
        found
    }

    /// Which names meet a pattern is not looked at: the same pattern, or all names.
    fn pattern_properties(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, level, ..
        } = context;
        if !facts.kinds.meets(Kinds::OBJECT) {
            return Vec::new();
        }
        let at = &below(at, "*");
        let patterns = facts.patterns();
        let mut found = Vec::new();
        for (pattern, wanted) in wanted.as_object().into_iter().flatten() {
            let mut same = patterns.iter().filter(|(own, _)| own == pattern);
            if same.any(|(_, known)| self.compare(wanted, known, at, level + 1).is_empty()) {
                continue;
            }
            let mut all: Vec<_> = patterns.iter().map(|(_, known)| known.clone()).collect();
            all.extend(facts.names().into_iter().map(|name| facts.property(name)));
            all.push(facts.other_property());
            let mut all = all.iter();
            if !all.all(|known| self.compare(wanted, known, at, level + 1).is_empty()) {
                found.push(open(
                    at,
                    "patternProperties is relied on, and is not the same",
                ));
            }
        }
        found
    }

    fn first_items(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, level, ..
        } = context;
        let list = wanted
            .as_array()
            .filter(|_| self.read.draft == Draft::Draft202012);
        let list = list.into_iter().flatten().enumerate();
        let reached = list.filter(|(index, _)| facts.may_have_item(*index));
        let each = reached.flat_map(|(index, wanted)| {
            let known = facts.item(Some(index));
            self.compare(wanted, &known, &below(at, &index.to_string()), level + 1)
        });
        each.collect()
    }

    fn items(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts,
            at,
            level,
            members,
        } = context;
        if wanted.is_array() {
            return self.opaque_list(wanted, context);
        }
        let first = members.get("prefixItems").and_then(Value::as_array);
        let first = first.filter(|_| self.read.draft == Draft::Draft202012);
        let from = first.map_or(0, Vec::len);
        let to = from.max(facts.items_named());
        let mut found = Vec::new();
        for index in (from..to).filter(|index| facts.may_have_item(*index)) {
            let known = facts.item(Some(index));
            found.extend(self.compare(wanted, &known, &below(at, &index.to_string()), level + 1));
        }
        if facts.may_have_item(to) {
            found.extend(self.compare(wanted, &facts.item(None), &below(at, "*"), level + 1));
        }
        found
    }

    fn any_of(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, level, ..
        } = context;
        let mut branches = wanted.as_array().into_iter().flatten();
        if branches.any(|branch| self.compare(branch, facts, at, level).is_empty()) {
            return Vec::new();
        }
        vec![open(
            at,
            "one of several alternatives (anyOf) is relied on, and none alone is promised",
        )]
    }

    fn opaque(&mut self, keyword: &str, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, members, ..
        } = context;
        let mut entries = OPAQUE.iter();
        let Some((_, with, kinds)) = entries.find(|(own, ..)| *own == keyword) else {
            // No keyword of a draft that is taken here: an annotation, or a part of another keyword.
            return Vec::new();
        };
        let equal = |own: &&Map<String, Value>| {
            let mut all = with.iter().chain([&keyword]);
            !with.contains(&"*") && all.all(|key| own.get(*key) == members.get(*key))
        };
        let related = with
            .iter()
            .filter_map(|key| members.get(*key))
            .chain([wanted]);
        let mut related = related.collect::<Vec<_>>().into_iter();
        let same = related.all(|own| self.means_the_same(own, facts));
        if !facts.kinds.meets(*kinds) || (same && facts.schemas.iter().any(equal)) {
            return Vec::new();
        }
        vec![open(
            at,
            &format!("{keyword} is relied on, and is not the same"),
        )]
    }

    /// Lists of items as they were written before 2020-12.
    fn opaque_list(&mut self, wanted: &'a Value, context: Context<'a, '_>) -> Vec<Found> {
        let Context {
            facts, at, members, ..
        } = context;
        let other =
            |own: &Map<String, Value>| own.get("additionalItems") == members.get("additionalItems");
        let equal = |own: &&Map<String, Value>| own.get("items") == Some(wanted) && other(own);
        let extra = members
            .get("additionalItems")
            .is_none_or(|own| self.means_the_same(own, facts));
        let same = extra && self.means_the_same(wanted, facts);
        if !facts.kinds.meets(Kinds::ARRAY) || (same && facts.schemas.iter().any(equal)) {
            return Vec::new();
        }
        vec![open(
            at,
            "items are relied on one by one, and are not the same",
        )]
    }

    /// Whether the same text means the same in both schemas: the draft, and what it refers to.
    fn means_the_same(&self, part: &Value, facts: &Facts<'_>) -> bool {
        let other = facts.origin;
        let own = DEFINITIONS.map(|key| self.read.root.get(key));
        let same = own == DEFINITIONS.map(|key| other.root.get(key));
        let mut all = own.into_iter().flatten().chain([part]);
        let text = part.to_string();
        let refers = text.contains("\"$ref\":");
        self.read.draft == other.draft && (!refers || (same && all.all(stays_in_definitions)))
    }
}

/// Where schemas keep their parts.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// Whether all references lead to definitions, as far as the text tells.
fn stays_in_definitions(part: &Value) -> bool {
    let text = part.to_string();
    let mut references = text.split("\"$ref\":").skip(1);
    references.all(|rest| rest.starts_with("\"#/$defs/") || rest.starts_with("\"#/definitions/"))
}

/// A keyword of the reader, and where it stands.
#[derive(Clone, Copy)]
struct Context<'a, 'c> {
    members: &'a Map<String, Value>,
    facts: &'c Facts<'a>,
    at: &'c str,
    level: usize,
}

fn missing(wanted: &Value, facts: &Facts<'_>, at: &str) -> Vec<Found> {
    let names = simple::missing(wanted, facts);
    let names = names.into_iter().map(|name| {
        let reason = "it is relied on, and the publisher may now leave it out";
        broken(&below(at, name), reason.to_owned())
    });
    names.collect()
}

fn listed(keyword: &str, wanted: &Value, facts: &Facts<'_>, at: &str) -> Vec<Found> {
    let values = match wanted {
        Value::Array(values) if keyword == "enum" => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    if facts
        .few_values()
        .is_some_and(|own| own.iter().all(|own| values.contains(own)))
    {
        return Vec::new();
    }
    let new = facts
        .values
        .iter()
        .flatten()
        .filter(|own| !values.contains(own));
    let new: Vec<_> = new.map(|own| own.to_string()).collect();
    let new = if new.is_empty() {
        "others".to_owned()
    } else {
        new.join(", ")
    };
    let values: Vec<_> = values.iter().map(Value::to_string).collect();
    let values = values.join(", ");
    let reason = format!("only {values} is relied on, and the publisher may now write {new}");
    vec![broken(at, reason)]
}

fn broken(at: &str, reason: String) -> Found {
    Found {
        pointer: at.to_owned(),
        reason: super::cut(&reason),
        decided: true,
    }
}

fn closed(at: &str) -> Found {
    let reason = "who reads takes nothing here, and the publisher may now write something";
    broken(at, reason.to_owned())
}

fn open(at: &str, why: &str) -> Found {
    Found {
        pointer: at.to_owned(),
        reason: format!("it could not be decided whether this breaks: {why}"),
        decided: false,
    }
}

fn below(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}
