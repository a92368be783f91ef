#include <stdio.h>
#include "total.h"
long long total(int n) {
    long long sum = 0, x;
    while (n--) {
        scanf("%lld", &x);
        sum += x;
    }
    return sum;
}
