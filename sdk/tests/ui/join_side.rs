use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Order {
    amount: f64,
}

struct Payment {
    amount: f64,
}

#[derive(Default)]
struct Payments;

#[operator]
impl Join for Payments {
    type Left<'a> = Order;
    type Right<'a> = Option<Payment>;
    type Output<'a> = Order;

    fn join(&self, order: Order, payment: Option<Payment>) -> Order {
        Order { amount: order.amount - payment.map_or(0.0, |payment| payment.amount) }
    }
}

fn main() {}
