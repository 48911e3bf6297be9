module kmtls/selftests/vm/go

go 1.19
