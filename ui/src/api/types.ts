// What crosses the wire between the console and a node, by short names. All of it is made of the
// node's OpenAPI document, `openapi.json`: what is wrong here is mended there.
import type { components, operations } from '../../made/schema';

type Schemas = components['schemas'];

export type Role = Schemas['Role'];
export type Problem = Schemas['Problem'];
export type Me = Schemas['Me'];
export type Token = Schemas['TokenView'];
export type NodeView = Schemas['NodeView'];

export type ServiceState = Schemas['ServiceState'];
export type ServiceView = Schemas['ServiceView'];
export type SettingView = Schemas['SettingView'];
export type DeploymentView = Schemas['DeploymentView'];
export type Order = Schemas['OrderKind'];
export type NewDeployment = Schemas['NewDeployment'];
export type ResilienceView = Schemas['ResilienceView'];
export type CacheView = Schemas['CacheView'];
export type PurgeOrder = Schemas['PurgeOrder'];

export type Text = Schemas['Text'];
export type TopicView = Schemas['TopicView'];
export type RecordView = Schemas['RecordView'];
export type ReaderView = Schemas['ReaderView'];
export type LetterView = Schemas['LetterView'];
export type RedriveOrder = Schemas['RedriveOrder'];
export type StepView = Schemas['StepView'];
export type JobState = Schemas['JobState'];
export type JobView = Schemas['JobView'];
export type OutboxView = Schemas['OutboxView'];

export type LogView = Schemas['LogView'];
export type Level = NonNullable<LogView['level']>;
export type Attributes = LogView['attributes'];
export type LogHistogram = Schemas['HistogramView'];
export type LogFacets = Schemas['FacetsView'];
export type FacetValue = Schemas['FacetView'];
export type TraceSummary = Schemas['TraceLine'];
export type TraceView = Schemas['TraceDetail'];
export type SpanView = Schemas['SpanView'];

export type MapView = Schemas['MapView'];
export type MapNode = Schemas['MapNode'];
export type MapEdge = Schemas['MapEdge'];
export type RouteLoad = Schemas['RouteView'];
export type Costs = Schemas['CostsView'];

export type Stat = NonNullable<NonNullable<operations['get_metrics_series']['parameters']['query']>['stat']>;
export type MetricName = Schemas['MetricView'];
export type SeriesFound = Schemas['SeriesAnswer'];
export type Series = Schemas['OneSeries'];
export type Exemplar = Schemas['ExemplarView'];

export type EventKind = Schemas['EventKind'];
export type TimelineEvent = Schemas['TimelineEvent'];
export type ErrorGroup = Schemas['ErrorView'];
export type Why = Schemas['WhyView'];
export type Objective = Schemas['ObjectiveView'];
export type Alert = Schemas['AlertView'];
export type AlertChange = Schemas['ChangeView'];
