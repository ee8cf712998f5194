//! Searches over a snapshot. All of them block; the service runs them on threads for that.

mod calls;
mod chatty;
mod count;
mod edges;
mod group;
mod messages;
mod page;
mod pick;
mod routes;
mod scan;
mod stream;
mod traces;
mod uses;

pub use calls::Calls;
pub use chatty::Chatty;
pub use count::{Bucket, Facet, Facets, Histogram};
pub use edges::Edge;
pub use messages::TopicEdge;
pub use page::{Cursor, Page, PageQuery};
pub use routes::RouteCalls;
pub use traces::{
    TraceCursor, TraceOrder, TracePage, TraceQuery, TraceSummary, TraceView, critical_path,
    own_times,
};
pub use uses::Use;

pub(crate) use count::{facets, histogram};
pub(crate) use edges::edges;
pub(crate) use group::Spans;
pub(crate) use page::page;
pub(crate) use stream::{context, stream};
pub(crate) use traces::{trace, traces};
