//! The routes of HTTP as data. The listener serves them, [`crate::openapi`] publishes them, and
//! tests compare the two.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::code::{Code, http_status};
use crate::envelope::Envelope;
use crate::http::*;
use crate::method::Role;
use crate::params::ListParams;
use crate::results::{BlobPut, DaemonStatus, ProfileRows, SubmissionState, Submissions, Submitted};
use crate::{Report, Submission};

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }
}

/// Makes the schema of a type.
pub type RouteShape = fn(&mut SchemaGenerator) -> Schema;

/// The content of a request or an answer.
#[derive(Debug, Clone, Copy)]
pub enum RouteContent {
    /// JSON of a type.
    Json(RouteShape),
    /// JSON whose shape is described elsewhere: this text says where.
    AnyJson(&'static str),
    /// Bytes of any kind.
    Bytes,
    /// Server-sent events: `id` is `seq`, `event` is `kind`, `data` is the event in JSON. The last
    /// one is `done`, without an `id`.
    Events,
    /// Text of this media type.
    Text(&'static str),
}

/// An answer that is not an error.
#[derive(Debug, Clone, Copy)]
pub struct RouteAnswer {
    pub status: u16,
    pub description: &'static str,
    pub content: Option<RouteContent>,
    /// Names of headers that it has, each with what is in it.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A route: one method of one path.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub verb: Verb,
    /// The path; `{id}` stands for one segment.
    pub path: &'static str,
    /// Name of the operation for generated clients.
    pub operation: &'static str,
    pub summary: &'static str,
    /// The role that it takes; `None` where callers need no credentials.
    pub role: Option<Role>,
    /// The type whose fields are its query parameters.
    pub query: Option<RouteShape>,
    /// Names of request headers with a meaning, each with that meaning.
    pub headers: &'static [(&'static str, &'static str)],
    pub request: Option<RouteContent>,
    /// Whether the request may come without its body.
    pub is_body_optional: bool,
    pub answers: &'static [RouteAnswer],
    /// Codes of errors besides those that every route may answer with.
    pub errors: &'static [Code],
}

/// Statuses that HTTP itself asks for, with the code that such an answer has, and when.
pub const OWN_STATUSES: &[(u16, Code, &str)] = &[
    (405, Code::BadRequest, "the path does not take this method; `Allow` has those that it takes"),
    (408, Code::BadRequest, "the request did not arrive within its time"),
    (413, Code::TooLarge, "the body is larger than the route takes"),
    (415, Code::BadRequest, "the body has another media type than the route takes"),
    (431, Code::TooLarge, "the head is larger than 8 KiB, or has more than 64 fields"),
];

fn shape<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn json<T: JsonSchema>() -> RouteContent {
    RouteContent::Json(shape::<T>)
}

const fn ok(description: &'static str, content: RouteContent) -> RouteAnswer {
    RouteAnswer { status: 200, description, content: Some(content), headers: &[] }
}

const fn no_content(description: &'static str) -> RouteAnswer {
    RouteAnswer { status: 204, description, content: None, headers: &[] }
}

/// A route without parameters and body.
const fn plain(
    verb: Verb,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    answers: &'static [RouteAnswer],
) -> Route {
    Route {
        verb,
        path,
        operation,
        summary,
        role: Some(Role::Any),
        query: None,
        headers: &[],
        request: None,
        is_body_optional: false,
        answers,
        errors: &[],
    }
}

const NOTHING_KNOWN: &str = "JSON: docs/OPERATIONS.md describes it.";

/// What may be wrong with a submission, and why it may not be admitted.
const SUBMITTING: &[Code] = &[
    Code::UnknownProfile,
    Code::Unsupported,
    Code::Denied,
    Code::NotFound,
    Code::Conflict,
    Code::QueueFull,
    Code::DeadlineUnreachable,
    Code::NoHost,
    Code::ImageFailed,
    Code::StoreFull,
];

const LOCATION: (&str, &str) = ("Location", "The path of what was made.");

/// Every route, in the order of the documentation.
pub const ROUTES: &[Route] = &[
    Route {
        role: Some(Role::Submit),
        query: Some(shape::<SubmitQuery>),
        headers: &[(
            "Idempotency-Key",
            "The submission's `id`, if its JSON has none: the same id returns the same report.",
        )],
        request: Some(json::<Submission>()),
        errors: SUBMITTING,
        ..plain(
            Verb::Post,
            "/api/v1/submissions",
            "submit",
            "judge a submission and answer with its report, or with its id at once",
            &[
                ok("The report.", json::<Report>()),
                RouteAnswer {
                    status: 202,
                    description: "With `wait=false`: it is stored, and will be answered also after a restart.",
                    content: Some(json::<Submitted>()),
                    headers: &[LOCATION],
                },
            ],
        )
    },
    Route {
        query: Some(shape::<ListParams>),
        errors: &[Code::Unsupported],
        ..plain(
            Verb::Get,
            "/api/v1/submissions",
            "listSubmissions",
            "your finished submissions, newest first, or with `state` those that are queued or running; of everybody for an admin",
            &[ok("A page of them, newest first.", json::<Submissions>())],
        )
    },
    Route {
        query: Some(shape::<StateQuery>),
        errors: &[Code::NotFound, Code::Unsupported],
        ..plain(
            Verb::Get,
            "/api/v1/submissions/{id}",
            "getSubmission",
            "the state of a submission, and its report when it is done",
            &[ok("Its state; `report` when that is `done`.", json::<SubmissionState<'static>>())],
        )
    },
    Route {
        query: Some(shape::<TenantQuery>),
        errors: &[Code::NotFound],
        ..plain(
            Verb::Delete,
            "/api/v1/submissions/{id}",
            "cancelSubmission",
            "cancel a submission; idempotent",
            &[no_content("It is cancelled, or was done.")],
        )
    },
    Route {
        query: Some(shape::<TenantQuery>),
        headers: &[("Last-Event-ID", "`seq` of the last event that was received: the next one follows.")],
        errors: &[Code::NotFound],
        ..plain(
            Verb::Get,
            "/api/v1/submissions/{id}/events",
            "followSubmission",
            "the events of a submission as they happen",
            &[ok("Server-sent events; `done` is the last, when the report is available.", RouteContent::Events)],
        )
    },
    Route {
        query: Some(shape::<TenantQuery>),
        request: Some(json::<InputBody>()),
        errors: &[Code::NotFound],
        ..plain(
            Verb::Post,
            "/api/v1/submissions/{id}/input",
            "sendInput",
            "feed the standard input of a submission with `stdin_open`",
            &[no_content("It is taken.")],
        )
    },
    Route {
        query: Some(shape::<TenantQuery>),
        errors: &[Code::NotFound, Code::Unsupported],
        ..plain(
            Verb::Get,
            "/api/v1/submissions/{id}/receipt",
            "getReceipt",
            "the signed receipt of a finished submission",
            &[ok("A DSSE envelope.", json::<Envelope>())],
        )
    },
    Route {
        role: Some(Role::Submit),
        request: Some(RouteContent::Bytes),
        ..plain(
            Verb::Put,
            "/api/v1/blobs",
            "putBlob",
            "upload content for a submission",
            &[RouteAnswer {
                status: 201,
                description: "Its id.",
                content: Some(json::<BlobPut>()),
                headers: &[LOCATION],
            }],
        )
    },
    Route {
        errors: &[Code::NotFound],
        ..plain(
            Verb::Get,
            "/api/v1/blobs/{id}",
            "getBlob",
            "download a blob, yours or of a report",
            &[RouteAnswer {
                status: 200,
                description: "Its bytes, as an attachment that no browser shows.",
                content: Some(RouteContent::Bytes),
                headers: &[("Content-Security-Policy", "`sandbox; default-src 'none'`.")],
            }],
        )
    },
    plain(
        Verb::Get,
        "/api/v1/profiles",
        "listProfiles",
        "the profiles: the valid values of `language`",
        &[ok("One row per profile.", json::<ProfileRows>())],
    ),
    plain(
        Verb::Get,
        "/api/v1/status",
        "getStatus",
        "instance, hosts, pools, queue, counters, stages",
        &[ok("The daemon's status.", json::<DaemonStatus<'static>>())],
    ),
    plain(
        Verb::Get,
        "/api/v1/openapi.json",
        "getOpenApi",
        "this description",
        &[ok("An OpenAPI document.", RouteContent::AnyJson("OpenAPI 3.1."))],
    ),
    Route {
        request: Some(json::<SessionBody>()),
        is_body_optional: true,
        ..plain(
            Verb::Post,
            "/api/v1/session",
            "openSession",
            "begin a browser session with a token in `Authorization`, or with a one-use code",
            &[RouteAnswer {
                status: 200,
                description: "The session.",
                content: Some(json::<SessionRow>()),
                headers: &[("Set-Cookie", "The session's cookie: HttpOnly, SameSite=Strict, 12 hours.")],
            }],
        )
    },
    plain(
        Verb::Delete,
        "/api/v1/session",
        "closeSession",
        "end the browser session of the cookie; idempotent",
        &[no_content("It is over.")],
    ),
    Route {
        role: Some(Role::Submit),
        request: Some(json::<RunCodeBody>()),
        errors: SUBMITTING,
        ..plain(
            Verb::Post,
            "/api/run-code",
            "runCode",
            "run one program",
            &[ok("What it printed, and whether it succeeded.", json::<RunCodeReply>())],
        )
    },
    Route {
        role: None,
        ..plain(
            Verb::Get,
            "/health",
            "getHealth",
            "health: whether the daemon can judge",
            &[
                ok("`healthy` or `degraded`.", RouteContent::AnyJson(NOTHING_KNOWN)),
                RouteAnswer {
                    status: 500,
                    description: "`unhealthy`: it cannot judge; `error` says why.",
                    content: Some(RouteContent::AnyJson(NOTHING_KNOWN)),
                    headers: &[],
                },
            ],
        )
    },
    Route {
        role: None,
        ..plain(
            Verb::Get,
            "/livez",
            "getLiveness",
            "200 as long as the process responds",
            &[ok("It responds.", RouteContent::AnyJson(NOTHING_KNOWN))],
        )
    },
    Route {
        role: None,
        ..plain(
            Verb::Get,
            "/readyz",
            "getReadiness",
            "whether work is accepted",
            &[
                ok("It is.", RouteContent::AnyJson(NOTHING_KNOWN)),
                RouteAnswer {
                    status: 503,
                    description: "It is not; `reason` says why.",
                    content: Some(RouteContent::AnyJson(NOTHING_KNOWN)),
                    headers: &[],
                },
            ],
        )
    },
    Route {
        role: None,
        ..plain(
            Verb::Get,
            "/metrics",
            "getMetrics",
            "metrics, as OpenMetrics or Prometheus text",
            &[ok("All metrics.", RouteContent::Text("text/plain"))],
        )
    },
];

impl RouteContent {
    pub fn media_type(&self) -> &'static str {
        match self {
            RouteContent::Json(_) | RouteContent::AnyJson(_) => "application/json",
            RouteContent::Bytes => "application/octet-stream",
            RouteContent::Events => "text/event-stream",
            RouteContent::Text(kind) => kind,
        }
    }
}

impl Route {
    /// Whether it is part of the API: the others are served without `http.api` too.
    pub fn is_api(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// The errors that it may answer with: status, and the codes with that status. Sorted.
    pub fn problems(&self) -> Vec<(u16, Vec<Code>)> {
        let mut codes = self.errors.to_vec();
        if self.is_api() {
            codes.extend([Code::BadRequest, Code::QuotaExceeded, Code::Draining, Code::Internal]);
        }
        if self.role.is_some() {
            codes.extend([Code::Unauthenticated, Code::Forbidden]);
        }
        let mut rows: Vec<(u16, Code)> = codes.into_iter().map(|code| (http_status(code), code)).collect();
        let own = OWN_STATUSES.iter().filter(|(status, ..)| match status {
            // a body is refused everywhere else
            408 | 415 => self.request.is_some(),
            405 => false,
            _ => true,
        });
        rows.extend(own.map(|(status, code, _)| (*status, *code)));
        rows.sort_by_key(|(status, code)| (*status, code.as_str()));
        rows.dedup();
        let mut problems: Vec<(u16, Vec<Code>)> = Vec::new();
        for (status, code) in rows {
            match problems.last_mut() {
                Some((last, codes)) if *last == status => codes.push(code),
                _ => problems.push((status, vec![code])),
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_and_operation_exists_once() {
        let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.verb.as_str(), route.path)).collect();
        let operations: BTreeSet<_> = ROUTES.iter().map(|route| route.operation).collect();
        assert_eq!((routes.len(), operations.len()), (ROUTES.len(), ROUTES.len()));
    }

    #[test]
    fn only_what_monitoring_reads_takes_no_credentials() {
        for route in ROUTES {
            assert_eq!(route.role.is_some(), route.is_api(), "{}", route.path);
            let statuses: Vec<u16> = route.problems().iter().map(|(status, _)| *status).collect();
            assert_eq!(statuses.contains(&401) && statuses.contains(&403), route.is_api(), "{}", route.path);
            let unique: BTreeSet<_> =
                route.answers.iter().map(|answer| answer.status).chain(statuses.clone()).collect();
            assert_eq!(unique.len(), route.answers.len() + statuses.len(), "{}: a status twice", route.path);
        }
    }
}
