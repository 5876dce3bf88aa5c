#include <iostream>
#include <nlohmann/json.hpp>

int main() {
    std::cout << nlohmann::json::parse(std::cin).dump();
}
