//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152).

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use ring::rand::{SecureRandom as _, SystemRandom};

use super::text;
use crate::access::Principal;
use crate::connection::Session;
use crate::sasl::{Exchange, Mechanism, Step};
use crate::wire::{BadRequest, Request};

pub(crate) fn handshake(session: &mut Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: SaslHandshakeRequest = request.decode()?;
    let mechanism = Mechanism::named(&asked.mechanism);
    session.exchange = mechanism.map(Exchange::new);
    let code = match mechanism {
        Some(_) => 0,
        None => ResponseError::UnsupportedSaslMechanism.code(),
    };
    let names = Mechanism::NAMES.map(text).to_vec();
    let response = SaslHandshakeResponse::default()
        .with_error_code(code)
        .with_mechanisms(names);
    request.answer(&response)
}

pub(crate) fn authenticate(session: &mut Session, request: &Request) -> Result<Bytes, BadRequest> {
    let asked: SaslAuthenticateRequest = request.decode()?;
    let response = SaslAuthenticateResponse::default();
    let mut nonce = [0_u8; 18];
    let random = SystemRandom::new().fill(&mut nonce);
    let Some(exchange) = session.exchange.as_mut().filter(|_| random.is_ok()) else {
        let code = ResponseError::IllegalSaslState.code();
        return request.answer(&response.with_error_code(code));
    };
    let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let access = session.broker.access().clone();
    let response = match exchange.step(&asked.auth_bytes, |name| access.secret(name), &nonce) {
        Step::Challenge(bytes) => response.with_auth_bytes(bytes.into()),
        Step::Proven { reply, name } => {
            session.who = Principal::Account(name);
            session.exchange = None;
            response.with_auth_bytes(reply.into())
        }
        Step::Refused => {
            session.exchange = None;
            session.who = Principal::Nobody;
            let why = "name or password are wrong; a service finds its own in KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD";
            response
                .with_error_code(ResponseError::SaslAuthenticationFailed.code())
                .with_error_message(Some(text(why)))
        }
    };
    request.answer(&response)
}
