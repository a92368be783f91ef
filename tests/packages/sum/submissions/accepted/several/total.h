long long total(int n);
