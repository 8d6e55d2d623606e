//! How sessions end, and what each side says about it: silence, a limit, an operator, a crash.

use nix::sys::signal::Signal;

use crate::exabgp::ExaBgp;
use crate::gobgp::GoBgp;
use crate::neighbour::{Neighbour, Setup};
use crate::net::{Lab, eventually};
use crate::openbgpd::OpenBgpd;
use crate::place::Place;
use crate::speaker::Speaker;
use crate::{ACCEPT, WIDE_ASN, announce, peer};

const OWN: [&str; 2] = ["203.0.113.10/32", "203.0.113.11/32"];
const THEIRS: [&str; 3] = ["198.51.100.0/24", "198.51.101.0/24", "198.51.102.0/24"];

/// Waits until the session's last end was for this reason.
async fn ended(speaker: &Speaker, reason: &str) {
    eventually(&format!("it ended: {reason}"), async || {
        let peer = speaker.peer("it").await.unwrap();
        peer["last_error"].as_str().is_some_and(|error| error.contains(reason))
    })
    .await;
}

fn is_frozen<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let mut neighbour = N::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;
        neighbour.announce(THEIRS[0]).await;
        eventually("it is learnt", async || speaker.best(THEIRS[0]).await.is_some()).await;

        neighbour.freeze();
        ended(&speaker, "hold timer expired").await;
        assert!(speaker.best(THEIRS[0]).await.is_none());

        neighbour.thaw();
        speaker.established(&["it"]).await;
        eventually("it is back", async || speaker.best(THEIRS[0]).await.is_some()).await;
    });
}

#[test]
fn a_frozen_gobgp_is_lost_when_the_hold_timer_expires_and_taken_back() {
    is_frozen::<GoBgp>();
}

#[test]
fn a_frozen_exabgp_is_lost_when_the_hold_timer_expires_and_taken_back() {
    is_frozen::<ExaBgp>();
}

#[test]
fn a_frozen_openbgpd_is_lost_when_the_hold_timer_expires_and_taken_back() {
    is_frozen::<OpenBgpd>();
}

fn is_told_why<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let neighbour = N::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        speaker.signal(Signal::SIGTERM);
        assert!(speaker.end().await);

        let text = "the speaker was stopped";
        eventually("it was told why", async || neighbour.was_told(text)).await;
    });
}

#[test]
fn a_session_that_exabgp_resets_comes_back_with_its_routes() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let exabgp = ExaBgp::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        exabgp.announce(THEIRS[0]).await;
        eventually("it is learnt", async || speaker.best(THEIRS[0]).await.is_some()).await;
        let since = speaker.peer("it").await.unwrap()["since"].clone();

        exabgp.say(&format!("neighbor {} teardown 4", place.edge_v4));
        eventually("there is another session", async || {
            let peer = speaker.peer("it").await.unwrap();
            peer["state"] == "Established" && peer["since"] != since
        })
        .await;
        eventually("it is back", async || speaker.best(THEIRS[0]).await.is_some()).await;
    });
}

#[test]
fn openbgpd_is_told_why_we_stop() {
    is_told_why::<OpenBgpd>();
}

#[test]
fn gobgp_is_told_why_we_stop_and_tells_us_why_it_does() {
    is_told_why::<GoBgp>();
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let gobgp = GoBgp::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        let edge = place.edge_v4.to_string();
        gobgp
            .client(&["neighbor", &edge, "shutdown", "--reason", "new linecard \u{2013} 5 min"])
            .await;

        ended(&speaker, "new linecard \u{2013} 5 min").await;
    });
}

#[test]
fn openbgpd_tells_us_why_it_stops() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN);
        let bgpd = OpenBgpd::start(&place, &setup).await;
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, ACCEPT)).await;
        speaker.established(&["it"]).await;

        bgpd.client(&["neighbor", bgpd.edge(), "down", "moving to the other rack"]).await;
        ended(&speaker, "moving to the other rack").await;

        bgpd.client(&["neighbor", bgpd.edge(), "up"]).await;
        speaker.established(&["it"]).await;
    });
}

/// One prefix too many, from them and from us. `limit` is theirs, in their words.
fn has_limits<N: Neighbour + 'static>(limit: &'static str) {
    Lab::run(async move |lab| {
        let place = Place::left(&lab);
        let setup = Setup::new(WIDE_ASN).session(limit);
        let neighbour = N::start(&place, &setup).await;
        let two = "import = { default = 'accept', max-prefixes = 2 }\n";
        let speaker = Speaker::start(&lab, &peer("it", &place, &setup, two)).await;
        speaker.established(&["it"]).await;

        for prefix in THEIRS {
            neighbour.announce(prefix).await;
        }
        ended(&speaker, "more than 2 prefixes").await;
        assert!(!speaker.is_established("it").await);

        neighbour.withdraw(THEIRS[2]).await;
        let three = "import = { default = 'accept', max-prefixes = 3 }\n";
        speaker.reload(&peer("it", &place, &setup, three));
        speaker.established(&["it"]).await;
        let own: String = OWN.iter().map(|prefix| announce(prefix)).collect();
        speaker.reload(&(peer("it", &place, &setup, three) + &own));
        ended(&speaker, "maximum number of prefixes reached").await;
    });
}

#[test]
fn one_prefix_too_many_ends_the_session_with_openbgpd_whoever_sends_it() {
    has_limits::<OpenBgpd>(" max-prefix 1\n");
}

#[test]
fn one_prefix_too_many_ends_the_session_with_gobgp_whoever_sends_it() {
    has_limits::<GoBgp>(
        "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = 'ipv4-unicast'\n\
         [neighbors.afi-safis.prefix-limit.config]\nmax-prefixes = 1\n",
    );
}

/// Segments are signed, or nobody hears them.
fn signs<N: Neighbour + 'static>() {
    Lab::run(async |lab| {
        let place = Place::left(&lab);
        let setup = Setup { password: Some("right"), ..Setup::new(WIDE_ASN) };
        let _neighbour = N::start(&place, &setup).await;
        let config = |password: &str| {
            let path = lab.dir.path().join(format!("{password}.md5"));
            std::fs::write(&path, format!("{password}\n")).unwrap();
            let file = format!("md5-password-file = '{}'\n{ACCEPT}", path.display());
            peer("it", &place, &setup, &file)
        };

        let speaker = Speaker::start(&lab, &config("wrong")).await;
        ended(&speaker, "connect timed out").await;

        speaker.reload(&config("right"));
        speaker.established(&["it"]).await;
    });
}

#[test]
fn gobgp_and_we_sign_what_we_send() {
    signs::<GoBgp>();
}

#[test]
fn exabgp_and_we_sign_what_we_send() {
    signs::<ExaBgp>();
}

#[test]
fn openbgpd_and_we_sign_what_we_send() {
    signs::<OpenBgpd>();
}

#[test]
fn routes_of_a_killed_gobgp_stay_until_it_is_back_and_says_which_are_left() {
    Lab::run(async |lab| {
        let (left, right) = (Place::left(&lab), Place::right(&lab));
        let graceful = "[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 30\n\
                        [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\n\
                        afi-safi-name = 'ipv4-unicast'\n\
                        [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n";
        let setup = Setup::new(WIDE_ASN).session(graceful);
        let other = Setup::new(64_602);
        let gobgp = GoBgp::start(&left, &setup).await;
        let exabgp = ExaBgp::start(&right, &other).await;
        let helping = format!("graceful-restart = {{ time-s = 30 }}\n{ACCEPT}");
        let config = peer("it", &left, &setup, &helping) + &peer("exabgp", &right, &other, ACCEPT);
        let speaker = Speaker::start(&lab, &config).await;
        speaker.established(&["it", "exabgp"]).await;
        for prefix in &THEIRS[..2] {
            gobgp.announce(prefix).await;
            eventually("ExaBGP has it", async || exabgp.learnt(prefix).await.is_some()).await;
        }
        let heard = exabgp.events().len();

        drop(gobgp);
        eventually("they are stale", async || {
            speaker.best(THEIRS[0]).await.is_some_and(|best| best["stale"] == true)
        })
        .await;
        let _gobgp = GoBgp::start_again(&left, &setup, &THEIRS[..1]).await;

        eventually("what it no longer has is gone", async || {
            exabgp.learnt(THEIRS[1]).await.is_none()
        })
        .await;
        eventually("the other is fresh", async || {
            speaker.best(THEIRS[0]).await.is_some_and(|best| best["stale"] == false)
        })
        .await;
        let since = exabgp.events().split_off(heard);
        assert!(!since.iter().any(|event| event.contains(THEIRS[0])), "{since:?}");
        assert!(exabgp.learnt(THEIRS[0]).await.is_some());
    });
}
