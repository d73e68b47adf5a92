//! The HTTP client: EC2 and STS through the operator's proxy, where there is one; what lies on this node past it.

use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;

const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// HTTPS with the system's root certificates. `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not,
/// choose the way, as the SDK's own client reads them. The incumbent's reads some forms otherwise: here `NO_PROXY` takes no
/// `*.domain` and no ports, and a proxy speaks HTTP.
pub(crate) fn client() -> impl HttpClient + 'static {
    let proxied = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(TLS).build()
    });
    ByHost { direct: Builder::new().tls_provider(TLS).build_https(), proxied }
}

/// Asks instance metadata and the agents for credentials without the proxy, whatever `NO_PROXY` says: it could not reach
/// them, and what it sees there is this node's role.
#[derive(Debug)]
struct ByHost {
    direct: SharedHttpClient,
    proxied: SharedHttpClient,
}

impl HttpClient for ByHost {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ConnectorByHost {
            direct: self.direct.http_connector(settings, components),
            proxied: self.proxied.http_connector(settings, components),
        })
    }

    /// Root certificates are read here, at start, and not with the first request.
    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.proxied.validate_base_client_config(components, config)
    }
}

#[derive(Debug)]
struct ConnectorByHost {
    direct: SharedHttpConnector,
    proxied: SharedHttpConnector,
}

impl HttpConnector for ConnectorByHost {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_on_this_node(request.uri()) { self.direct.call(request) } else { self.proxied.call(request) }
    }
}

/// Loopback, link-local addresses and those of the instance's services. *Source*: EC2 user guide, "Use instance metadata"
/// (169.254.169.254, fd00:ec2::254); EKS user guide, "EKS Pod Identity" (169.254.170.23, fd00:ec2::23).
fn is_on_this_node(uri: &str) -> bool {
    let after_scheme = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next(),
        None => authority.split(':').next(),
    };
    match host.unwrap_or_default().parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.segments().starts_with(&[0xfd00, 0x0ec2]),
        Err(_) => host == Some("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_on_the_node_is_known_by_its_address() {
        for near in [
            "http://169.254.169.254/latest/meta-data/",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fd00:ec2::254]:80/",
            "http://127.0.0.1:1338?x=http://a",
            "http://[::1]:80",
            "http://localhost:8080/",
        ] {
            assert!(is_on_this_node(near), "{near}");
        }
        for far in [
            "https://ec2.eu-west-1.amazonaws.com/",
            "https://169.254.example/",
            "http://10.0.0.2:8080/",
            "https://[fd00::1]/",
            "https://localhost.example/",
            "",
        ] {
            assert!(!is_on_this_node(far), "{far}");
        }
    }
}
