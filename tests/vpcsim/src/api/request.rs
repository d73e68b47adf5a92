//! What arrives: a form, and a signature that says who sent it.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use url::form_urlencoded;

use crate::cloud::{ApiError, Caller, Cloud, Millis};

/// How far a request's date stamp may be from now.
///
/// Source: Amazon EC2 API Reference, "Error codes", `RequestExpired`: 15 minutes.
const SKEW_MAX: Duration = Duration::from_secs(15 * 60);

/// The only version of the API that is served.
const VERSION: &str = "2016-11-15";

/// A request, not yet looked into.
#[derive(Debug, Clone)]
pub(super) struct Incoming {
    /// Name and value, in order.
    pub(super) form: Vec<(String, String)>,
    authorization: Option<String>,
    date: Option<String>,
}

impl Incoming {
    /// The form in the body, or in the query of a GET.
    pub(super) fn new(headers: &HeaderMap, query: Option<&str>, body: &[u8]) -> Self {
        let query = form_urlencoded::parse(query.unwrap_or_default().as_bytes()).into_owned();
        let form = query.chain(form_urlencoded::parse(body).into_owned()).collect();
        let authorization =
            headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let date = headers.get("x-amz-date").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { form, authorization, date }
    }

    /// The action's name; empty if there is none.
    pub(super) fn action(&self) -> &str {
        self.value("Action").unwrap_or_default()
    }

    /// Whether the request is one at all: an action, a version that is served, no name twice.
    ///
    /// # Errors
    /// `MissingAction`, `NoSuchVersion`, `MalformedQueryString`.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if self.action().is_empty() {
            return Err(ApiError::new(
                "MissingAction",
                "The request is missing an action or a required parameter.",
            ));
        }
        match self.value("Version") {
            None => return Err(ApiError::missing("Version")),
            Some(VERSION) => {}
            Some(other) => {
                return Err(ApiError::new(
                    "NoSuchVersion",
                    format!("The requested version ({other}) of service AmazonEC2 does not exist"),
                ));
            }
        }
        let mut names: Vec<&str> = self.form.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ApiError::new(
                "MalformedQueryString",
                format!("The query string contains the parameter {} more than once", pair[0]),
            )),
            None => Ok(()),
        }
    }

    /// Who signs.
    ///
    /// # Errors
    /// No signature, an ill-formed one, one for another Region or service, an unknown or expired key.
    pub(super) fn caller(&self, cloud: &Cloud) -> Result<Caller, ApiError> {
        let credential = self.credential()?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [key, _date, region, service, "aws4_request"] = parts.as_slice() else {
            return Err(ApiError::new(
                "IncompleteSignature",
                format!("Credential must have exactly 5 slash-delimited elements, got '{credential}'"),
            ));
        };
        let ours = cloud.spec().region.as_str();
        if *region != ours {
            return Err(ApiError::new(
                "AuthFailure",
                format!("Credential should be scoped to a valid region, not '{region}': this is '{ours}'"),
            ));
        }
        if *service != "ec2" {
            return Err(ApiError::new(
                "AuthFailure",
                format!("Credential should be scoped to correct service: 'ec2', not '{service}'"),
            ));
        }
        self.check_date(cloud.endpoint_clock(cloud.now()))?;
        cloud.caller(key)
    }

    /// A clock that is wrong by more than a quarter of an hour cannot sign; without a date nothing is compared.
    fn check_date(&self, now: Millis) -> Result<(), ApiError> {
        let Some(stamp) = self.value("X-Amz-Date").or(self.date.as_deref()) else { return Ok(()) };
        let date: Millis = stamp.parse().map_err(|_| {
            ApiError::new(
                "IncompleteSignature",
                format!("Date must be in ISO-8601 'basic format'. Got '{stamp}'"),
            )
        })?;
        if now.since(date).max(date.since(now)) > SKEW_MAX {
            return Err(ApiError::new("RequestExpired", "Request has expired."));
        }
        Ok(())
    }

    /// `key/date/region/service/aws4_request`, from the header or from the query.
    fn credential(&self) -> Result<&str, ApiError> {
        if let Some(credential) = self.value("X-Amz-Credential") {
            return Ok(credential);
        }
        let missing =
            || ApiError::new("MissingAuthenticationToken", "Request is missing Authentication Token");
        let header = self.authorization.as_deref().ok_or_else(missing)?;
        let fields = header.strip_prefix("AWS4-HMAC-SHA256").ok_or_else(|| {
            ApiError::new("IncompleteSignature", "Authorization header requires AWS4-HMAC-SHA256")
        })?;
        let field = |name: &str| fields.split(',').find_map(|field| field.trim().strip_prefix(name));
        for name in ["Signature=", "SignedHeaders="] {
            if field(name).is_none_or(str::is_empty) {
                return Err(ApiError::new(
                    "IncompleteSignature",
                    format!("Authorization header requires '{}' parameter", name.trim_end_matches('=')),
                ));
            }
        }
        field("Credential=").ok_or_else(|| {
            ApiError::new("IncompleteSignature", "Authorization header requires 'Credential' parameter")
        })
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// One call, on its way into an action.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// When it takes effect.
    pub(super) now: Millis,
    /// Who calls.
    pub(super) caller: Caller,
}
