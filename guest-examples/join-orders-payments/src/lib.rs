//! Orders with how they were paid, as far as a payment was found.

use tidemill_sdk::prelude::*;

#[derive(Record)]
struct Order<'a> {
    customer: &'a str,
    amount: f64,
}

#[derive(Record)]
struct Payment<'a> {
    method: &'a str,
}

#[derive(Record, Debug, PartialEq)]
struct Settled<'a> {
    customer: &'a str,
    amount: f64,
    method: Option<&'a str>,
}

#[derive(Default)]
struct OrdersPayments;

#[operator]
impl Join for OrdersPayments {
    type Left<'a> = Order<'a>;
    /// It can do without: an order that nobody has paid comes too, where the pipeline's join lets it.
    type Right<'a> = Option<Payment<'a>>;
    type Output<'a> = Result<Settled<'a>, Reject>;

    fn join<'a>(&self, order: Order<'a>, payment: Option<Payment<'a>>) -> Result<Settled<'a>, Reject> {
        let Order { customer, amount } = order;
        if amount < 0.0 {
            return Err(format!("{customer} cannot owe {amount}").into());
        }
        Ok(Settled { customer, amount, method: payment.map(|payment| payment.method) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_may_be_unpaid_but_not_negative() {
        let join = |amount, payment| OrdersPayments.join(Order { customer: "ann", amount }, payment);
        let settled = |method| Ok(Settled { customer: "ann", amount: 8.5, method });
        assert_eq!(join(8.5, Some(Payment { method: "card" })), settled(Some("card")));
        assert_eq!(join(8.5, None), settled(None));
        assert_eq!(join(-1.0, None), Err("ann cannot owe -1".into()));
    }
}
