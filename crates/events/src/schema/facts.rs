//! What is known of a value because it is valid by the schema that the publisher writes.
//!
//! A list of schema objects, all of which hold (references followed, `allOf` opened), the kinds that
//! are left, and the values, if they can be counted. Less may be known than holds, never more: what
//! is proven of these facts is then true of every document.

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::kinds::Kinds;
use super::{Schema, refer};

/// More alternatives than these are not gone through one by one.
const ALTERNATIVES_MAX: usize = 64;

/// A schema, and what its references mean.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) root: &'a Value,
    pub(super) draft: Draft,
}

/// What is known of one value.
#[derive(Clone)]
pub(super) struct Facts<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) schemas: Vec<&'a Map<String, Value>>,
    pub(super) kinds: Kinds,
    pub(super) values: Option<Vec<&'a Value>>,
    /// No value is valid at all.
    pub(super) impossible: bool,
    /// Alternatives that were gone into, so that they are not again.
    opened: Vec<*const Value>,
}

impl<'a> Origin<'a> {
    pub(super) fn of(schema: &'a Schema) -> Self {
        Self {
            root: &schema.value,
            draft: schema.draft,
        }
    }
}

impl<'a> Facts<'a> {
    /// What is known of a value that is valid by all of these.
    pub(super) fn of(origin: Origin<'a>, schemas: &[&'a Value]) -> Self {
        let mut facts = Self {
            origin,
            schemas: Vec::new(),
            kinds: Kinds::ALL,
            values: None,
            impossible: false,
            opened: Vec::new(),
        };
        schemas.iter().for_each(|schema| facts.add(schema));
        facts
    }

    fn add(&mut self, schema: &'a Value) {
        let members = match schema {
            Value::Bool(false) => {
                self.impossible = true;
                return;
            }
            Value::Object(members) => members,
            _ => return,
        };
        if self.schemas.iter().any(|own| std::ptr::eq(*own, members)) {
            return;
        }
        let alone = refer::replaces(members, self.origin.draft);
        let target = members.get("$ref").and_then(Value::as_str);
        if let Some(target) = target.and_then(|target| refer::resolve(self.origin.root, target)) {
            self.add(target);
        }
        if alone {
            return;
        }
        self.schemas.push(members);
        if let Some(kinds) = members.get("type") {
            self.kinds = self.kinds.and(Kinds::of(kinds));
        }
        if let Some(value) = members.get("const") {
            self.only(vec![value]);
        }
        if let Some(Value::Array(values)) = members.get("enum") {
            self.only(values.iter().collect());
        }
        if let Some(Value::Array(parts)) = members.get("allOf") {
            parts.iter().for_each(|part| self.add(part));
        }
        self.impossible |= self.kinds.is_empty();
    }

    /// Any one list of all possible values will do; the shortest says most.
    fn only(&mut self, values: Vec<&'a Value>) {
        let kinds = values.iter().map(|value| Kinds::of_value(value));
        self.kinds = self.kinds.and(kinds.fold(Kinds::NONE, Kinds::or));
        if self
            .values
            .as_ref()
            .is_none_or(|own| own.len() > values.len())
        {
            self.values = Some(values);
        }
    }

    /// A document may go one of these ways; together they are all ways. None if there is one only.
    pub(super) fn ways(&self) -> Option<Vec<Self>> {
        let schemas = self.schemas.iter();
        let mut choices = schemas.flat_map(|own| ["anyOf", "oneOf"].map(|key| own.get(key)));
        let choice = choices.find_map(|choice| {
            let choice = choice.filter(|own| !self.opened.contains(&std::ptr::from_ref(*own)))?;
            Some((choice, choice.as_array()?))
        });
        if let Some((choice, branches)) = choice
            && branches.len() <= ALTERNATIVES_MAX
        {
            let way = |branch| {
                let mut way = self.clone();
                way.opened.push(std::ptr::from_ref(choice));
                way.add(branch);
                way
            };
            return Some(branches.iter().map(way).collect());
        }
        if let Some(values) = self.values.as_ref().filter(|own| own.len() > 1) {
            let way = |value: &&'a Value| Self {
                values: Some(vec![*value]),
                ..self.clone()
            };
            let few = values.len() <= ALTERNATIVES_MAX;
            return few.then(|| values.iter().map(way).collect());
        }
        let kinds: Vec<_> = self.kinds.each().collect();
        let said = self.kinds != Kinds::ALL && self.values.is_none() && kinds.len() > 1;
        let way = |kinds| Self {
            kinds,
            ..self.clone()
        };
        said.then(|| kinds.into_iter().map(way).collect())
    }

    /// The values of a keyword, wherever it stands.
    pub(super) fn each(&self, keyword: &str) -> impl Iterator<Item = &'a Value> {
        self.schemas.iter().filter_map(move |own| own.get(keyword))
    }

    /// What is known of the property of this name, where there is one.
    pub(super) fn property(&self, name: &str) -> Self {
        let of = |schema: &&'a Map<String, Value>| {
            let named = member(schema, "properties").and_then(|own| own.get(name));
            // Which names a pattern meets is not looked at: then nothing is known from this schema.
            let patterns = schema.contains_key("patternProperties");
            let others = schema.get("additionalProperties").filter(|_| !patterns);
            named.or(others)
        };
        let schemas: Vec<_> = self.schemas.iter().filter_map(of).collect();
        Self::of(self.origin, &schemas)
    }

    /// What is known of a property that is named nowhere and meets no pattern.
    pub(super) fn other_property(&self) -> Self {
        let schemas: Vec<_> = self.each("additionalProperties").collect();
        Self::of(self.origin, &schemas)
    }

    /// What is known of the item of this index; without one, of those after all that are told apart.
    pub(super) fn item(&self, index: Option<usize>) -> Self {
        let of = |schema: &&'a Map<String, Value>| {
            let first = schema.get("prefixItems").and_then(Value::as_array);
            let first = first.filter(|_| self.origin.draft == Draft::Draft202012);
            let own = index.and_then(|index| first?.get(index));
            // Before 2020-12, a list of schemas was written as `items`.
            own.or_else(|| schema.get("items").filter(|items| !items.is_array()))
        };
        let schemas: Vec<_> = self.schemas.iter().filter_map(of).collect();
        Self::of(self.origin, &schemas)
    }

    /// How many items are told apart by their index.
    pub(super) fn items_named(&self) -> usize {
        let lists = self.each("prefixItems").filter_map(Value::as_array);
        lists.map(Vec::len).max().unwrap_or(0)
    }

    /// The names of properties that any schema tells of.
    pub(super) fn names(&self) -> Vec<&'a str> {
        let schemas = self.schemas.iter();
        let named = schemas.filter_map(|own| member(own, "properties"));
        let mut names: Vec<_> = named.flat_map(Map::keys).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The patterns of names, with what is known of the properties that meet them.
    pub(super) fn patterns(&self) -> Vec<(&'a str, Self)> {
        let schemas = self.schemas.iter();
        let patterns = schemas
            .filter_map(|own| member(own, "patternProperties"))
            .flatten();
        let known = |(pattern, schema): (&'a String, &'a Value)| {
            (pattern.as_str(), Self::of(self.origin, &[schema]))
        };
        patterns.map(known).collect()
    }

    /// Whether an array may be so long that it has an item of this index.
    pub(super) fn may_have_item(&self, index: usize) -> bool {
        let most = self.each("maxItems").filter_map(Value::as_u64).min();
        let index = u64::try_from(index).unwrap_or(u64::MAX);
        self.kinds.meets(Kinds::ARRAY) && most.is_none_or(|most| most > index)
    }

    /// All values that there can be, if they are few.
    pub(super) fn few_values(&self) -> Option<Vec<Value>> {
        if let Some(values) = &self.values {
            return Some(values.iter().map(|own| (*own).clone()).collect());
        }
        let known = [Value::Null, Value::Bool(false), Value::Bool(true)];
        let own = known
            .into_iter()
            .filter(|own| self.kinds.meets(Kinds::of_value(own)));
        self.kinds
            .within(Kinds::NULL.or(Kinds::BOOLEAN))
            .then(|| own.collect())
    }

    /// Whether the same is known.
    pub(super) fn is(&self, other: &Self) -> bool {
        let same =
            |(own, other): (&&Map<String, Value>, &&Map<String, Value>)| std::ptr::eq(*own, *other);
        self.kinds == other.kinds
            && self.opened == other.opened
            && self.values == other.values
            && self.schemas.len() == other.schemas.len()
            && self.schemas.iter().zip(&other.schemas).all(same)
    }
}

pub(super) fn member<'a>(
    schema: &'a Map<String, Value>,
    key: &str,
) -> Option<&'a Map<String, Value>> {
    schema.get(key).and_then(Value::as_object)
}
