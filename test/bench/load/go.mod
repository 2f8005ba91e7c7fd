module vouch.test/load

go 1.19
