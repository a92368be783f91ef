#include <bits/stdc++.h>

int main(int argc, char **argv) {
    std::ifstream input(argv[1]);
    std::ofstream judge(std::string(argv[3]) + "judgemessage.txt"), team(std::string(argv[3]) + "teammessage.txt");
    int n, x;
    input >> n;
    std::set<int> seen;
    for (int i = 1; i <= n; i++) {
        if (!(std::cin >> x) || x < 1 || x > n || !seen.insert(x).second) {
            judge << "no permutation at place " << i;
            team << "This is no permutation.";
            return 43;
        }
        if (x == i) {
            judge << i << " stays at its place";
            return 43;
        }
    }
    std::string more;
    return std::cin >> more ? 43 : 42;
}
