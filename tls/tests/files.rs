//! What is wrong with files is said with the file's name and what to do.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod pki;

use bulkhead_tls::{Files, Role, Tls};
use pki::{Pki, Time};
use std::fs;

fn refused(files: &Files) -> String {
    let error = Tls::load(files.clone()).err().expect("it is taken").to_string();
    eprintln!("{error}");
    error
}

#[test]
fn each_mistake_names_the_file_and_the_way_out() {
    let pki = Pki::new();
    let good = pki.files("controller");
    assert!(Tls::load(good.clone()).is_ok());
    let other = pki.files("other");
    let missing = pki.path("missing.pem");
    let text = pki.path("text.pem");
    fs::write(&text, "hello").unwrap();
    let der = pki.path("der.pem");
    fs::write(&der, [0x30, 0x82, 1, 0]).unwrap();
    let secret = pki.path("secret.pem");
    fs::write(&secret, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n").unwrap();
    let spoilt = pki.path("spoilt.pem");
    fs::write(&spoilt, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let list = pki.path("list.pem");
    let authority = fs::read_to_string(pki.path("ca.pem")).unwrap();
    fs::write(&list, authority + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n").unwrap();
    let past = pki.files_of("past", Time::Past);
    let future = pki.files_of("future", Time::Future);
    let old = Pki::valid(Time::Past);
    let expired_ca = old.path("ca.pem");

    let ca = |path: &std::path::Path| Files { ca: path.into(), ..good.clone() };
    let certificate = |path: &std::path::Path| Files { certificate: path.into(), ..good.clone() };
    let key = |path: &std::path::Path| Files { key: path.into(), ..good.clone() };
    for (files, file, says) in [
        (ca(&missing), "missing.pem", "No such file"),
        (certificate(&missing), "missing.pem", "No such file"),
        (key(&missing), "missing.pem", "name a file that this user may read"),
        (ca(&text), "text.pem", "PEM form"),
        (certificate(&der), "der.pem", "-inform der"),
        (certificate(&good.key), "controller-key.pem", "this is a private key"),
        (key(&good.certificate), "controller-cert.pem", "this is a certificate"),
        (key(&secret), "secret.pem", "passphrase"),
        (ca(&spoilt), "spoilt.pem", "cannot be used"),
        (ca(&list), "list.pem", "revocation list"),
        (certificate(&spoilt), "spoilt.pem", "cannot be used"),
        (key(&other.key), "other-key.pem", "does not belong to the certificate"),
        (past, "past-cert.pem", "expired"),
        (future, "future-cert.pem", "clock"),
        (ca(&expired_ca), "ca.pem", "expired"),
    ] {
        let said = refused(&files);
        assert!(said.contains(file) && said.contains(says), "{says}: {said}");
    }
}

#[test]
fn it_is_known_when_each_certificate_in_use_expires() {
    let (pki, old) = (Pki::valid(Time::Until(5_000_000_000)), Pki::valid(Time::Past));
    let mut files = pki.files_of("controller", Time::Until(4_000_000_000));
    // One that is not believed any more has nothing to expire.
    let both = [old.path("ca.pem"), pki.path("ca.pem")].map(|path| fs::read_to_string(path).unwrap()).concat();
    files.ca = pki.path("both.pem");
    fs::write(&files.ca, both).unwrap();
    // Shown with the controller's own.
    let chain = [&files.certificate, &pki.path("ca.pem")].map(|path| fs::read_to_string(path).unwrap()).concat();
    fs::write(&files.certificate, chain).unwrap();
    let lives = Tls::load(files.clone()).unwrap().lives();
    let told: Vec<_> = lives.iter().map(|life| (life.role, &life.path, life.owner.as_str(), life.ends)).collect();
    let expected = [
        (Role::Ca, &files.ca, "the authority", 5_000_000_000),
        (Role::Certificate, &files.certificate, "controller", 4_000_000_000),
        (Role::Certificate, &files.certificate, "the authority", 5_000_000_000),
    ];
    assert_eq!(told, expected);
}

#[test]
fn of_several_authorities_those_that_are_good_are_believed() {
    let (pki, old) = (Pki::new(), Pki::valid(Time::Past));
    let mut files = pki.files("controller");
    let both = [old.path("ca.pem"), pki.path("ca.pem")].map(|path| fs::read_to_string(path).unwrap()).concat();
    files.ca = pki.path("both.pem");
    fs::write(&files.ca, both).unwrap();
    assert!(Tls::load(files).is_ok());
}
