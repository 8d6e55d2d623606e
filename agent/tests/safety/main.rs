//! What would be an outage without the interlocks: a real agent between a controller that says
//! something wrong and a router that must not lose its routes for it.

mod bench;
mod world;

use bench::{Bench, Told};
use isocast_api::agent::BgpPolicy;
use world::{SERVICES, full, node, pool, router, service, tombstone};

/// A bench whose router has every route.
fn run(test: impl FnOnce(&mut Bench) + Send + 'static) {
    Bench::run(Told::ByController, SERVICES, full(), |bench| {
        bench.eventually("the router has every route", |bench| bench.routes() == 30);
        bench.eventually("the fleet's view is known", Bench::keeps_everything);
        test(bench);
    });
}

#[test]
fn an_empty_snapshot_withdraws_nothing_and_says_what_is_missing() {
    run(|bench| {
        bench.configure(vec![node()]);

        bench.eventually("what is missing is said", |bench| {
            bench.count("MissingFromConfiguration") == 30
        });
        bench.all_along("every route is there", |bench| bench.routes() == 30);
        let missing = "isocast_origination_held_total{reason=\"MissingFromConfiguration\"}";
        assert_eq!(bench.metric(missing), Some(30.0));
        let refused = bench.status()["refused"].as_array().map(Vec::len);
        assert_eq!(refused, Some(31), "the services and the router");

        bench.configure(full());
        bench.eventually("all is well again", |bench| bench.count("Announced") == 30);
        assert_eq!(bench.routes(), 30);
    });
}

#[test]
fn all_services_deleted_at_once_go_a_few_at_a_time_and_one_goes_at_once() {
    run(|bench| {
        let one_less = full().into_iter().filter(|entry| entry.key != "service/service-00");
        bench.configure(one_less.chain([tombstone(0)]).collect());
        bench.eventually("its route is gone", |bench| bench.routes() == 29);
        bench.eventually("so is the service", |bench| {
            bench.status()["services"].as_array().map(Vec::len) == Some(29)
        });

        let graves = (0..SERVICES).map(tombstone);
        bench.configure(graves.chain([node(), router(None), pool()]).collect());

        bench.eventually("the others are held", |bench| bench.count("HeldByRemovalBudget") == 20);
        bench.eventually("ten are gone in all", |bench| bench.routes() == 20);
        bench.all_along("and no more", |bench| bench.routes() == 20);

        bench.configure(full());
        bench.eventually("they are put back", |bench| bench.routes() == 30);
    });
}

#[test]
fn a_checker_gone_mad_leaves_the_last_announcer_and_the_wire_is_fast() {
    run(|bench| {
        for number in 0..SERVICES {
            bench.fail(number);
        }

        bench.eventually("every route is held", |bench| bench.count("LastAnnouncer") == 30);
        bench.all_along("every route is there", |bench| bench.routes() == 30);

        for number in 0..SERVICES {
            bench.recover(number);
        }
        bench.eventually("all is well again", |bench| bench.count("Announced") == 30);
    });
}

#[test]
fn a_policy_that_drops_everything_is_refused_and_the_former_one_stays() {
    run(|bench| {
        let nothing = BgpPolicy {
            uid: "policy".into(),
            name: "nothing".into(),
            generation: 1,
            terms: "[]".into(),
        };
        let services = (0..SERVICES).map(service);
        bench.configure(services.chain([node(), router(Some(nothing)), pool()]).collect());

        bench.all_along("every route is there", |bench| bench.routes() == 30);
        let refused = &bench.status()["refused"][0];
        assert_eq!(refused["reason"], "WouldWithdraw", "{refused}");
        assert_eq!(refused["name"], "router");
    });
}

#[test]
fn a_single_failure_is_on_the_wire_at_once_and_many_only_within_the_budget() {
    Bench::run(Told::ByFile, SERVICES, full(), |bench| {
        bench.eventually("the router has every route", |bench| bench.routes() == 30);
        let measured = |bench: &Bench| bench.metric("isocast_health_to_update_seconds_count");
        let before = measured(bench).unwrap();

        for number in 0..10 {
            bench.fail(number);
            bench.eventually("the route is gone", |bench| bench.routes() == 29);
            bench.recover(number);
            bench.eventually("the route is back", |bench| bench.routes() == 30);
        }

        bench.eventually("each change was measured", |bench| {
            measured(bench).is_some_and(|count| count - before >= 20.0)
        });
        let within = bench.metric("isocast_health_to_update_seconds_bucket{le=\"1.0\"");
        assert_eq!(within, measured(bench), "none took a second, on whatever machine");

        for number in 0..20 {
            bench.fail(number);
        }
        bench
            .eventually("the others are held", |bench| bench.count("HeldByWithdrawalBudget") == 15);
        bench.all_along("and stay", |bench| bench.routes() == 25);
    });
}
