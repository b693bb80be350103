//! Every address: what it takes to be answered there, who answers, and what the OpenAPI document says of it.

use crate::{
    Backend, audit, backup, documents,
    gate::{self, Needs},
    history, lists, matrix, openapi,
    operation::{Answer, Body, Operation, operation},
    patch, questions,
    service::Service,
    tokens, vteps, watch,
};
use axum::{
    Router,
    handler::Handler,
    http::Method,
    middleware,
    routing::{MethodFilter, MethodRouter},
};
use bulkhead_types::{
    ApplyAnswer, AuditAnswer, DiffAnswer, FlowQuestion, HistoryAnswer, MatrixRow, PathAnswer, PathQuestion,
    PortsAnswer, ReachAnswer, Realization, RestoreAnswer, RollbackQuestion, RuleHits, SeenAttachment, StatusAnswer,
    TokenAnswer, TokenList, TokenQuestion, TopologyAnswer, TraceAnswer, VtepAnswer, VtepReport,
};
use utoipa::openapi::schema::Type;

/// An address. There is none without something said of who is answered there, and no method without something said of it.
pub(crate) struct Route<B> {
    /// With its parameters in braces.
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// What may be done there.
    pub(crate) operations: Vec<(Method, Operation)>,
    methods: MethodRouter<Service<B>>,
}

impl<B: Backend> Route<B> {
    fn at(path: &'static str, needs: Needs) -> Self {
        Self { path, needs, operations: Vec::new(), methods: MethodRouter::new() }
    }

    fn on<H: Handler<T, Service<B>>, T: 'static>(
        mut self,
        (filter, method): (MethodFilter, Method),
        handler: H,
        operation: Operation,
    ) -> Self {
        self.operations.push((method, operation));
        self.methods = self.methods.on(filter, handler);
        self
    }

    fn get<H: Handler<T, Service<B>>, T: 'static>(self, handler: H, operation: Operation) -> Self {
        self.on((MethodFilter::GET, Method::GET), handler, operation)
    }

    fn put<H: Handler<T, Service<B>>, T: 'static>(self, handler: H, operation: Operation) -> Self {
        self.on((MethodFilter::PUT, Method::PUT), handler, operation)
    }

    fn post<H: Handler<T, Service<B>>, T: 'static>(self, handler: H, operation: Operation) -> Self {
        self.on((MethodFilter::POST, Method::POST), handler, operation)
    }

    fn patch<H: Handler<T, Service<B>>, T: 'static>(self, handler: H, operation: Operation) -> Self {
        self.on((MethodFilter::PATCH, Method::PATCH), handler, operation)
    }

    fn delete<H: Handler<T, Service<B>>, T: 'static>(self, handler: H, operation: Operation) -> Self {
        self.on((MethodFilter::DELETE, Method::DELETE), handler, operation)
    }

    /// Puts it behind its gate.
    pub(crate) fn into(self, router: Router<Service<B>>, backend: &B) -> Router<Service<B>> {
        let gate = middleware::from_fn_with_state((backend.clone(), self.needs), gate::pass::<B>);
        router.route(self.path, self.methods.route_layer(gate))
    }
}

/// All addresses.
pub(crate) fn routes<B: Backend>() -> Vec<Route<B>> {
    [resources(), changes(), questions(), fabric(), keeping(), access(), about()].into_iter().flatten().collect()
}

fn resources<B: Backend>() -> Vec<Route<B>> {
    let change = |id, about| operation(id, about).query::<documents::ChangeQuery>().changes().tells::<ApplyAnswer>();
    vec![
        Route::at("/v1/{kind}", Needs::Resources).get(
            lists::list::<B>,
            operation("list{}", "All resources of the kind {}, in order of names, or a part of them.")
                .query::<lists::ListQuery>()
                .gives(Answer::List)
                .also([410]),
        ),
        Route::at("/v1/{kind}/{name}", Needs::Resources)
            .get(
                documents::get::<B>,
                operation("get{}", "One resource of the kind {}.").gives(Answer::Kind).also([404]),
            )
            .put(
                documents::put::<B>,
                change("put{}", "Creates a resource of the kind {}, or replaces it.")
                    .takes(Body::Kind)
                    .also([409, 422]),
            )
            .patch(
                patch::patch::<B>,
                change("patch{}", "Changes a part of a resource of the kind {} (RFC 7396).")
                    .takes(Body::Patch)
                    .also([404, 409, 422]),
            )
            .delete(
                documents::delete::<B>,
                change("delete{}", "Removes a resource of the kind {}.").also([404, 409, 422]),
            ),
        Route::at("/v1/watch", Needs::Resources).get(
            watch::watch::<B>,
            operation(
                "watch",
                "Changes as they come, as server-sent events: of the type `change`, each with a WatchEvent, and `end` as \
                 the last, with a Problem that says why the stream ends. A client goes on from the last id that it was \
                 given.",
            )
            .query::<watch::WatchQuery>()
            .header("Last-Event-ID", "The id of the last event that was heard.", Type::Integer)
            .gives(Answer::Other("text/event-stream"))
            .also([410]),
        ),
    ]
}

fn changes<B: Backend>() -> Vec<Route<B>> {
    let several = |id, about| {
        operation(id, about)
            .query::<documents::ChangeQuery>()
            .without("resourceVersion")
            .changes()
            .takes(Body::Documents)
            .tells::<ApplyAnswer>()
            .also([409, 422])
    };
    vec![
        Route::at("/v1/apply", Needs::Change).post(
            documents::apply::<B>,
            several("apply", "Creates and changes resources, all of them in one atomic change or none."),
        ),
        Route::at("/v1/delete", Needs::Change).post(
            documents::remove::<B>,
            several("delete", "Removes resources, all of them in one atomic change or none; only names are looked at."),
        ),
        Route::at("/v1/rollback", Needs::Change).post(
            history::rollback::<B>,
            operation("rollback", "Makes a new revision with the content of an old one.")
                .query::<history::RollbackQuery>()
                .changes()
                .asks::<RollbackQuestion>()
                .tells::<ApplyAnswer>()
                .also([409, 422]),
        ),
    ]
}

fn questions<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::at("/v1/realization", Needs::Ask).get(
            questions::realization::<B>,
            operation("getRealization", "How far a revision has come on the switches.")
                .query::<questions::RealizationQuery>()
                .tells::<Realization>()
                .also([422]),
        ),
        Route::at("/v1/reach", Needs::Ask).post(
            questions::reach::<B>,
            operation("reach", "What becomes of a connection, and which rules decide.")
                .asks::<FlowQuestion>()
                .tells::<ReachAnswer>()
                .also([422]),
        ),
        Route::at("/v1/trace", Needs::Ask).post(
            questions::trace::<B>,
            operation("trace", "A packet's way through the compiled stages, and on the real switches.")
                .asks::<FlowQuestion>()
                .tells::<TraceAnswer>()
                .also([422]),
        ),
        Route::at("/v1/matrix", Needs::Ask).get(
            matrix::matrix::<B>,
            operation("getMatrix", "Who reaches whom.").query::<matrix::MatrixQuery>().lists::<MatrixRow>().also([422]),
        ),
        Route::at("/v1/hits", Needs::Ask).get(
            questions::hits::<B>,
            operation("getHits", "What each rule has matched.")
                .query::<questions::HitsQuery>()
                .lists::<RuleHits>()
                .also([404]),
        ),
        Route::at("/v1/history", Needs::Ask).get(
            history::history::<B>,
            operation("getHistory", "Earlier revisions, newest first.")
                .query::<history::HistoryQuery>()
                .tells::<HistoryAnswer>()
                .also([422]),
        ),
        Route::at("/v1/diff", Needs::Ask).get(
            history::diff::<B>,
            operation("getDiff", "What differs between two revisions, and what that means for who reaches whom.")
                .query::<history::DiffQuery>()
                .tells::<DiffAnswer>()
                .also([422]),
        ),
    ]
}

fn fabric<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::at("/v1/status", Needs::Ask).get(
            questions::status::<B>,
            operation("getStatus", "The state of every switch, and what else the controller has to tell of itself.")
                .tells::<StatusAnswer>(),
        ),
        Route::at("/v1/attachments", Needs::Ask).get(
            lists::attachments::<B>,
            operation("getAttachments", "Where interfaces are plugged in whose documents do not say.")
                .query::<lists::AttachmentsQuery>()
                .lists::<SeenAttachment>()
                .also([404]),
        ),
        Route::at("/v1/topology", Needs::Ask).get(
            questions::topology::<B>,
            operation("getTopology", "Switches and the links between them.").tells::<TopologyAnswer>(),
        ),
        Route::at("/v1/path", Needs::Ask).post(
            questions::path::<B>,
            operation("findPath", "The ways between two workloads or switches.")
                .asks::<PathQuestion>()
                .tells::<PathAnswer>()
                .also([422]),
        ),
        Route::at("/v1/ports", Needs::Ask).get(
            questions::ports::<B>,
            operation("getPorts", "The ports of a switch.")
                .query::<questions::PortsQuery>()
                .tells::<PortsAnswer>()
                .also([404]),
        ),
        Route::at("/v1/vteps/{name}", Needs::Vtep)
            .get(
                vteps::vtep::<B>,
                operation("getVtep", "What a kernel VTEP has to forward, for its agent.")
                    .query::<vteps::VtepQuery>()
                    .tells::<VtepAnswer>()
                    .also([404]),
            )
            .post(
                vteps::report::<B>,
                operation("reportVtep", "What a kernel VTEP tells of itself, by its agent.")
                    .asks::<VtepReport>()
                    .tells_nothing()
                    .also([404]),
            ),
    ]
}

fn keeping<B: Backend>() -> Vec<Route<B>> {
    const BACKUP: &str = "application/x-ndjson";
    vec![
        Route::at("/v1/backup", Needs::Backup).get(
            backup::backup::<B>,
            operation("takeBackup", "Everything, as of one moment. A backup without its last line is not whole.")
                .gives(Answer::Other(BACKUP)),
        ),
        Route::at("/v1/restore", Needs::Restore).post(
            backup::restore::<B>,
            operation("restore", "Brings a backup back, into a controller that has no revision yet.")
                .takes(Body::Backup)
                .tells::<RestoreAnswer>()
                .also([409, 422]),
        ),
    ]
}

fn access<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::at("/v1/audit", Needs::Audit).get(
            audit::audit::<B>,
            operation("getAudit", "Records of the audit log, oldest first.")
                .query::<audit::AuditQuery>()
                .tells::<AuditAnswer>()
                .also([422]),
        ),
        Route::at("/v1/tokens", Needs::Tokens)
            .get(tokens::list::<B>, operation("listTokens", "Who has access.").tells::<TokenList>())
            .post(
                tokens::create::<B>,
                operation("createToken", "Gives access: makes a token, or takes a certificate's name.")
                    .changes()
                    .asks::<TokenQuestion>()
                    .tells::<TokenAnswer>()
                    .also([409]),
            ),
        Route::at("/v1/tokens/{name}", Needs::Tokens).delete(
            tokens::revoke::<B>,
            operation("revokeToken", "Ends an access, from the next request on.").tells_nothing().also([404]),
        ),
    ]
}

fn about<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::at("/metrics", Needs::Ask)
            .get(questions::metrics::<B>, operation("getMetrics", "Metrics, in the text format of Prometheus.")),
        Route::at("/openapi.json", Needs::Resources).get(
            openapi::openapi::<B>,
            operation("getOpenapi", "This document.").gives(Answer::Other("application/json")),
        ),
        // Whoever starts the controller looks here whether it runs.
        Route::at("/healthz", Needs::Nothing)
            .get(|| async { "ok\n" }, operation("getHealth", "Whether the controller runs.")),
        Route::at("/readyz", Needs::Nothing).get(
            questions::ready::<B>,
            operation("getReadiness", "Whether changes are taken and switches are spoken to; 503 if not yet."),
        ),
    ]
}
