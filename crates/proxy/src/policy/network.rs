//! Which clients a route lets in, by address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PolicyError;

/// A set of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Networks(Box<[IpNet]>);

impl Networks {
    /// Reads networks and single addresses; none if there are none.
    pub(crate) fn parse(given: &[String]) -> Result<Option<Self>, PolicyError> {
        let networks: Result<Box<[IpNet]>, _> = given
            .iter()
            .map(|text| {
                let one = text.parse::<IpAddr>().map(IpNet::from);
                one.or_else(|_| text.parse::<IpNet>())
                    .map_err(|_| PolicyError::Network(text.clone()))
            })
            .collect();
        let networks = networks?;
        Ok((!networks.is_empty()).then_some(Self(networks)))
    }

    /// Whether an address belongs to one of them. An IPv4 address in IPv6 clothes is IPv4.
    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_belong_to_their_networks() {
        let given = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(str::to_owned);
        let networks = Networks::parse(&given).unwrap().unwrap();
        for (address, inside) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(
                networks.contain(address.parse().unwrap()),
                inside,
                "{address}"
            );
        }
        assert_eq!(Networks::parse(&[]), Ok(None));
        assert!(Networks::parse(&["10.0.0.0/33".to_owned()]).is_err());
        assert!(Networks::parse(&["localhost".to_owned()]).is_err());
    }
}
