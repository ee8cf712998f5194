//! `atoll cert dev`: HTTPS on this machine without warnings.
//!
//! An issuer is made once for each user and kept outside of all projects; it signs a certificate for
//! the application. Whoever has the issuer's key can pretend to be any site to whoever trusts it,
//! so it never leaves the user's own folder, and only its owner can read it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use serde::Serialize;

use super::Failure;
use super::output::{FAINT, GOOD, Output};

/// What `--json` prints.
#[derive(Serialize)]
struct Made<'a> {
    cert: &'a Path,
    key: &'a Path,
    /// The certificate of the issuer, which browsers are to trust.
    ca: &'a Path,
    names: &'a [String],
}

const DEFAULT_NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// Browsers take no certificate that is valid for longer than 398 days.
const DAYS: i64 = 397;

/// The issuer's own; it is for development alone.
const ISSUER_DAYS: i64 = 3650;

pub(super) fn dev(dir: &Path, names: &[String], out: &Output) -> Result<(), Failure> {
    let names = if names.is_empty() {
        DEFAULT_NAMES.map(str::to_owned).to_vec()
    } else {
        names.to_vec()
    };
    let home = home()?;
    let (ca, issuer) = issuer(&home)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
    let params = params(&names)?;
    let certificate = params.signed_by(&key, &issuer).context("cannot sign")?;
    let folder = dir.join("certs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (cert_file, key_file) = (folder.join("dev.pem"), folder.join("dev-key.pem"));
    let chain = format!("{}{}", certificate.pem(), read(&ca)?);
    write(&cert_file, &chain, 0o644)?;
    write(&key_file, &key.serialize_pem(), 0o600)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        write(&ignore, "*-key.pem\n", 0o644)?;
    }
    if out.json {
        out.json(&Made {
            cert: &cert_file,
            key: &key_file,
            ca: &ca,
            names: &names,
        });
        return Ok(());
    }
    out.say(format!(
        "{GOOD}made{GOOD:#} a certificate for {}",
        names.join(", ")
    ));
    out.say("Put this into atoll.toml:");
    out.data(
        "[edge.tls]\ncertificates = [{ cert = \"certs/dev.pem\", key = \"certs/dev-key.pem\" }]",
    );
    let ca = ca.display();
    out.say(format!(
        "{FAINT}So that browsers trust it, once for this user:\n  \
         Debian, Ubuntu: sudo cp {ca} /usr/local/share/ca-certificates/atoll-dev.crt && sudo update-ca-certificates\n  \
         curl: curl --cacert {ca} https://localhost:8443/\n  \
         Firefox, Chrome: import {ca} as an authority in the settings{FAINT:#}"
    ));
    Ok(())
}

/// Where the issuer is kept.
fn home() -> Result<PathBuf, Failure> {
    let of_user = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let data = data.filter(|path| path.is_absolute()).or_else(of_user);
    let folder = data
        .context("neither XDG_DATA_HOME nor HOME is set")?
        .join("atoll");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// The issuer of this user, made if there is none.
fn issuer(home: &Path) -> Result<(PathBuf, Issuer<'static, KeyPair>), Failure> {
    let (cert_file, key_file) = (home.join("dev-ca.pem"), home.join("dev-ca-key.pem"));
    if !cert_file.exists() || !key_file.exists() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?;
        let mut params = CertificateParams::default();
        let user = crate::who();
        let name = format!("Atoll development ({user})");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid_for(&mut params, ISSUER_DAYS);
        let certificate = params.self_signed(&key).context("cannot sign")?;
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&cert_file, &certificate.pem(), 0o644)?;
    }
    let key = KeyPair::from_pem(&read(&key_file)?);
    let key = key.with_context(|| format!("{} is no key; remove it", key_file.display()))?;
    let issuer = Issuer::from_ca_cert_pem(&read(&cert_file)?, key);
    let issuer =
        issuer.with_context(|| format!("{} is no certificate; remove it", cert_file.display()))?;
    Ok((cert_file, issuer))
}

fn params(names: &[String]) -> Result<CertificateParams, Failure> {
    let params = CertificateParams::new(names.to_vec());
    let mut params = params.context("a name is neither a host nor an address")?;
    let name = names.first().map_or("localhost", String::as_str);
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    valid_for(&mut params, DAYS);
    Ok(params)
}

/// From an hour ago, as clocks differ.
fn valid_for(params: &mut CertificateParams, days: i64) {
    let seconds = atoll_base::Timestamp::now().as_micros() / 1_000_000;
    let at = |seconds| {
        let moment = time::OffsetDateTime::from_unix_timestamp(seconds);
        moment.unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(seconds - 3600);
    params.not_after = at(seconds + days * 86_400);
}

fn read(path: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(path);
    Ok(text.with_context(|| format!("cannot read {}", path.display()))?)
}

/// Writes a file whose mode is right from its first byte on.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    Ok(written.with_context(|| format!("cannot write {}", path.display()))?)
}
