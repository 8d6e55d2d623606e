//! Opens one QUIC connection to the controller, on a socket of its own.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use isocast_api::agent::{CONTROLLER_NAME, CloseCode};
use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use tokio::time::timeout;

use super::{
    error::LinkError,
    tls::{Purpose, client_config},
};

/// A connection and the socket below it.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) connection: Connection,
    endpoint: Endpoint,
}

/// Connects to the controller.
pub(super) async fn dial(address: SocketAddr, purpose: Purpose<'_>) -> Result<Dialed, LinkError> {
    let config = client_config(purpose)?;
    let any = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any)?;
    let connecting = endpoint
        .connect_with(config, address, CONTROLLER_NAME)
        .map_err(|error| LinkError::Io(std::io::Error::other(error)))?;
    let connection = timeout(HANDSHAKE_TIME, connecting)
        .await
        .map_err(|_elapsed| LinkError::Timeout)?
        .map_err(|error| explain(error, purpose))?;
    Ok(Dialed { connection, endpoint })
}

impl Dialed {
    /// Closes the connection and waits until the controller can have heard of it.
    pub(super) async fn close(self) {
        self.connection.close(VarInt::from_u32(CloseCode::Done.code()), b"");
        let _waited_long_enough = timeout(FAREWELL_TIME, self.endpoint.wait_idle()).await;
    }
}

/// Says which CA was expected when the controller turns out to be another one.
fn explain(error: ConnectionError, purpose: Purpose<'_>) -> LinkError {
    let expected = match purpose {
        Purpose::Join(ca) => ca,
        Purpose::Renew(identity) | Purpose::Session(identity) => identity.ca(),
    };
    match &error {
        ConnectionError::TransportError(fault) if fault.reason.contains("UnknownIssuer") => {
            LinkError::OtherCa { expected }
        }
        _ => error.into(),
    }
}

const HANDSHAKE_TIME: Duration = Duration::from_secs(2);

const FAREWELL_TIME: Duration = Duration::from_millis(500);
